/** Runs all promises under one runtime, and compares the results with the table in docs/compatibility.md. */
import { readFileSync } from 'node:fs'
import { check, promises } from './promises.mjs'

/** The columns of the table, after the promise. */
const columns = ['bun', 'deno']

/**
 * Runs every check. One that does not work is repeated once, because the machine may be busy.
 *
 * @returns the result of each promise: `works`, `works differently: …` or `does not: …`
 */
export async function checkAll (runtime) {
  const results = []
  for (const [name, promise] of promises) {
    let result = await check(promise, runtime)
    if (result !== 'works') result = await check(promise, runtime)
    results.push({ name, result })
  }
  return results
}

/** @returns what differs from the table, and what does not work under Node, where the fault is that of the check */
export function failuresOf (runtime, inNode, results) {
  const seen = readTable()
  return [
    ...inNode.filter(({ result }) => result !== 'works').map(({ name, result }) => `Node ${result} <- ${name}`),
    ...results.flatMap(({ name, result }) => {
      const before = seen.get(name)?.[runtime]
      return before === wordOf(result) ? [] : `${result}; in docs/compatibility.md: ${before ?? 'nothing'} <- ${name}`
    })
  ]
}

/** @returns one line for each promise that does not simply work */
export function rowsOf (results) {
  return results.filter(({ result }) => result !== 'works').map(({ name, result }) => `seen: ${result} <- ${name}`)
}

/** The table: promise -> runtime -> `works`, `works differently` or `does not`. */
export function readTable () {
  const page = readFileSync(new URL('../../docs/compatibility.md', import.meta.url), 'utf8')
  const [, section = ''] = page.split('\n## Other runtimes\n')
  const rows = section.split('\n## ')[0].split('\n').filter(line => line.startsWith('| ')).slice(1)
  return new Map(rows.map(row => {
    const [name, ...cells] = row.split(' | ').map(cell => cell.replace(/^\| | \|$/g, ''))
    return [name, Object.fromEntries(columns.map((column, index) => [column, wordOf(cells[index] ?? '')]))]
  }))
}

function wordOf (result) {
  return /^(?:works differently|works|does not)/.exec(result)?.[0]
}
