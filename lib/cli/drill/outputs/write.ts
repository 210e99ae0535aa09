/** Writes a file whole or not at all. */
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { CannotRunError } from '../cannot-run'

/** Writes a file. An existing file is replaced at once. @throws CannotRunError */
export function writeWhole (file: string, text: string): void {
  const temporary = `${file}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, text)
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw new CannotRunError(`cannot write ${file}: ${(error as NodeJS.ErrnoException).code}`)
  }
}
