/** Replaces files in one step: writes a temporary file beside each one, and then renames it. */
import { randomUUID } from 'node:crypto'
import { chmod, lstat, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { clean } from '../timeline/plain-text'

/** A file to write. */
export interface File {
  readonly name: string
  readonly content: string
}

/**
 * Writes all files. If one cannot be written, no file is changed, and no temporary file is left.
 *
 * @throws an error of one line, which names the file
 */
export async function writeFiles (files: readonly File[]): Promise<void> {
  const written: Array<{ readonly temporary: string, readonly target: string }> = []
  let current = ''
  try {
    for (const { name, content } of files) {
      current = name
      const existing = await stat(name).catch(() => null)
      if (existing !== null && !existing.isFile()) {
        // A pipe or a device must not be replaced. The target of a link such as /dev/stdout may have no path.
        await writeFile(name, content)
        continue
      }
      const target = await targetOf(name)
      const temporary = join(dirname(target), `.${basename(target).slice(0, 100)}.${randomUUID()}.tmp`)
      written.push({ temporary, target })
      await writeFile(temporary, content, { flag: 'wx' })
      if (existing !== null) await chmod(temporary, existing.mode)
    }
    for (const { temporary, target } of written) await rename(temporary, target)
  } catch (error) {
    throw new Error(`cannot write ${clean(current)}: ${reasonOf(error)}`, { cause: error })
  } finally {
    // A temporary file that was renamed, or could not be created, is not there.
    await Promise.all(written.map(({ temporary }) => rm(temporary).catch(() => {})))
  }
}

/** Returns the message of the file system without the path, because the path may be that of the temporary file. */
function reasonOf (error: unknown): string {
  return clean(error instanceof Error ? error.message.replace(/, \w+( '.*)?$/s, '') : String(error))
}

/** Returns the file to replace. A link is kept, and its target is replaced. */
async function targetOf (name: string): Promise<string> {
  const link = await lstat(name).catch(() => null)
  return link?.isSymbolicLink() === true ? await realpath(name) : name
}
