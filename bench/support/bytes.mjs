/** The bytes that a request allocates. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/**
 * Without the optimizing compilers, every object in the code is allocated. With them, the result depends on escape
 * analysis and on the time of optimization. The young generation is large enough not to be collected during a batch.
 */
const flags = ['--expose-gc', '--no-opt', '--no-maglev', '--no-sparkplug', '--single-threaded', '--hash-seed=1', '--min-semi-space-size=64', '--max-semi-space-size=64']
const child = fileURLToPath(new URL('../children/guarded.mjs', import.meta.url))

/** @param name a contender, measured in its own process; runs differ by a few bytes */
export function bytesPerRequest (name) {
  return JSON.parse(execFileSync(process.execPath, [...flags, child, name], { encoding: 'utf8' }).trim().split('\n').at(-1)).bytes
}
