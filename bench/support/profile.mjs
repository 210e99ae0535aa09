/** What a child of the bench spent its CPU time on, from the profile that Node writes with `--cpu-prof`. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './child.mjs'

/** Whose code it is, by where it lies. What has no file is V8 and Node's own C++. */
const owners = [
  ['fastify-shutdown', url => url.includes('/dist/lib/')],
  ['Fastify and its packages', url => url.includes('/node_modules/')],
  ["Node's JavaScript", url => url.startsWith('node:')],
  ['the bench itself', url => url.includes('/bench/')]
]

/** How often the stack is looked at, in microseconds. */
const interval = 100

/** Run a child that prints one line and ends. @returns milliseconds by owner, by function of ours, and in all; idle is left out */
export async function profile (script, config) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-profile-'))
  try {
    await run(script, config, ['--cpu-prof', '--cpu-prof-interval', String(interval), '--cpu-prof-dir', folder])
    const [file] = readdirSync(folder)
    return summarize(JSON.parse(readFileSync(join(folder, file), 'utf8')))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function summarize ({ nodes, samples, timeDeltas }) {
  const frames = new Map(nodes.map(node => [node.id, node.callFrame]))
  const byOwner = new Map()
  const byFunction = new Map()
  let all = 0
  samples.forEach((id, i) => {
    const { functionName, url, lineNumber } = frames.get(id)
    if (functionName === '(idle)') return
    const ms = timeDeltas[i] / 1_000
    const owner = owners.find(([, owns]) => owns(url))?.[0] ?? (functionName === '(garbage collector)' ? 'garbage collection' : 'V8 and C++')
    all += ms
    add(byOwner, owner, ms)
    if (owner === 'fastify-shutdown') add(byFunction, `${functionName || '(anonymous)'} (${url.split('/dist/').at(-1)}:${lineNumber + 1})`, ms)
  })
  return { all, byOwner, byFunction }
}

function add (sums, key, ms) {
  sums.set(key, (sums.get(key) ?? 0) + ms)
}
