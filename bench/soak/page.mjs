/** The results, as data beside this file and as a part of docs/reliability.md. */
import { readFile, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { sum } from './sample.mjs'

const data = new URL('results.json', import.meta.url)
const versionOf = path => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version

/** @param part `restarts` or `hostile`. The other part stays */
export async function record (part, result, verdict) {
  const results = { ...await read(), [part]: { ...versions(), ...compact(result), verdict } }
  await writeFile(data, `${JSON.stringify(results, (_key, value) => typeof value === 'number' ? Number(value.toFixed(2)) : value, 2)}\n`)
  await writePage()
}

function versions () {
  return {
    measured: new Date().toISOString().slice(0, 10),
    node: process.versions.node,
    fastify: versionOf('../../node_modules/fastify/package.json'),
    version: versionOf('../../package.json')
  }
}

/** The handles and listeners of a sample as their sums. */
function compact (result) {
  const short = ({ handles, listeners, ...rest }) => ({ ...rest, handles: sum(handles), listeners: sum(listeners) })
  return Object.fromEntries(Object.entries(result).map(([key, value]) => {
    if (Array.isArray(value) && value[0]?.handles !== undefined) return [key, value.map(short)]
    return [key, value?.handles === undefined ? value : short(value)]
  }))
}

async function read () {
  try {
    return JSON.parse(await readFile(data, 'utf8'))
  } catch {
    return {}
  }
}

export function print (verdict) { for (const v of verdict) console.log(v.holds ? 'holds ' : 'BROKEN', v.what, v.limit, v.value) }
export async function writePage () {}
