/** Writes metrics for the textfile collector of node-exporter, which reads every `.prom` file of a folder. */
import { randomUUID } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { throwInvalid } from '../checks'

/** Checks the option. @throws FST_ERR_SHUTDOWN_OPTION if node-exporter would not read this path */
export function checkTextfile (given: string): void {
  if (typeof given !== 'string' || !given.endsWith('.prom')) {
    throwInvalid('textfile', "a path that ends in '.prom', because node-exporter reads no other file", given)
  }
}

/**
 * Replaces the file in one step, so that node-exporter never reads half of it. The new file is written beside it,
 * because a rename is atomic only within a file system. Its name does not end in `.prom`.
 */
export async function replaceTextfile (path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    await writeFile(temporary, text, { flag: 'wx' })
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw error
  }
}
