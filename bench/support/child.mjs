/** Processes that are measured. Each is fresh, because a warm one keeps state of an earlier contender. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { monotonic } from './app.mjs'

/**
 * The highest number of open files that the system allows: 10 000 connections need as many, and 1 024 is a common
 * default.
 */
const raiseLimit = 'ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$0" "$@"'

/**
 * A process manager's variables change the plugin's defaults, so they must not come from the environment of the bench.
 */
const env = { PATH: process.env.PATH, HOME: process.env.HOME }

/**
 * @param script a file of `children/`
 * @param config its one argument
 * @returns the process, with `line()` for the next line of JSON that it prints and `exited` for how it ended
 */
export function start (script, config, flags = []) {
  const file = fileURLToPath(new URL(`../children/${script}.mjs`, import.meta.url))
  const child = spawn('sh', ['-c', raiseLimit, process.execPath, ...flags, file, JSON.stringify(config)], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const lines = []
  const waiting = []
  let errors = ''
  let broken = null
  // Ignore errors of a channel whose process is gone. `exited` and `line()` report how it ended.
  child.stdin.on('error', () => {})
  child.stderr.on('data', chunk => { errors = (errors + chunk).slice(-2_000) })
  createInterface(child.stdout).on('line', text => {
    if (!text.startsWith('{')) return // a line of the contender itself
    const value = JSON.parse(text)
    if (waiting.length > 0) waiting.shift().resolve(value)
    else lines.push(value)
  })
  const exited = Promise.all([
    once(child, 'exit').then(([code, signal]) => ({ code, signal, at: monotonic() })),
    once(child, 'close')
  ]).then(([ended]) => {
    broken = new Error(`${script} ${JSON.stringify(config)} ended with ${ended.code ?? ended.signal} and no answer: ${errors}`)
    for (const { reject } of waiting) reject(broken)
    return ended
  })
  return {
    exited,
    kill: signal => child.kill(signal),
    say: word => child.stdin.write(`${word}\n`),
    end: () => child.stdin.end(),
    /** Lines that it has printed and that were not read yet. */
    lines,
    async line () {
      if (lines.length > 0) return lines.shift()
      if (broken !== null) throw broken
      return await new Promise((resolve, reject) => waiting.push({ resolve, reject }))
    }
  }
}

/** Run a child that prints one line and ends. */
export async function run (script, config, flags) {
  const child = start(script, config, flags)
  child.end()
  const result = await child.line()
  const { code, signal } = await child.exited
  if (code !== 0) throw new Error(`${script} ${JSON.stringify(config)} gave an answer, but ended with ${code ?? signal}`)
  return result
}

/**
 * SIGTERM, and how it ended: milliseconds from the signal, and what the child printed in its exit handler.
 * After `cap` milliseconds it is killed, and `hung` is true.
 */
export async function terminate (child, cap) {
  const sentAt = monotonic()
  child.kill('SIGTERM')
  let hung = false
  const timer = setTimeout(() => {
    hung = true
    child.kill('SIGKILL')
  }, cap)
  const { code, at } = await child.exited
  clearTimeout(timer)
  const last = child.lines.at(-1)
  return { hung, code, sentAt, goneMs: at - sentAt, exitMs: last === undefined ? null : last.exitAt - sentAt, ...last }
}
