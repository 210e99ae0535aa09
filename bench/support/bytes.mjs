/** What a request allocates, to the byte. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/**
 * With the optimizing compilers off every object that the code asks for is allocated, in the order it is asked for; with them on,
 * escape analysis and the moment of tier-up would decide. A young generation this large is not collected in the middle of a batch.
 */
const flags = ['--expose-gc', '--no-opt', '--no-maglev', '--no-sparkplug', '--single-threaded', '--hash-seed=1', '--min-semi-space-size=64', '--max-semi-space-size=64']
const child = fileURLToPath(new URL('../children/guarded.mjs', import.meta.url))

/** @param name a contender, measured in a process of its own; a few bytes of it differ from run to run */
export function bytesPerRequest (name) {
  return JSON.parse(execFileSync(process.execPath, [...flags, child, name], { encoding: 'utf8' }).trim().split('\n').at(-1)).bytes
}
