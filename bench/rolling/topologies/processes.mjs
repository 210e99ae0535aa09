/** Starts the child processes of the harness, waits for them and stops them all. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { createConnection } from 'node:net'
import { setPriority } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const children = new Set()
process.on('exit', () => { for (const child of children) child.kill('SIGTERM') })

/** Longest time a service may take to end, in milliseconds, before it is killed and counted as hung. */
const longest = 15_000

/** @returns the path of a program, `null` where it is not installed */
export function find (program) {
  for (const directory of [...process.env.PATH.split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    const path = join(directory, program)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {}
  }
  return null
}

export function start (command, args, { env = {}, ipc = false, log } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? ['ipc'] : [])] })
  children.add(child)
  ordinaryPriority(child)
  child.on('exit', () => children.delete(child))
  for (const output of [child.stdout, child.stderr]) output.on('data', text => log?.(text.toString()))
  return child
}

/**
 * Raises the priority of the clients, if this user may. They stand for other machines. Otherwise, the boot of an
 * instance delays them, and they read the end of a connection later than over any network.
 */
export function clientsFirst () {
  try {
    setPriority(process.pid, -10)
  } catch {}
}

/** What the harness starts is not its clients. */
export function ordinaryPriority (child) {
  try {
    setPriority(child.pid, 0)
  } catch {}
}

/**
 * Resolves when the child has sent this message, rejects where it ends before. One listener throughout: two messages
 * may come in one turn.
 */
export function message (child, text) {
  return new Promise((resolve, reject) => {
    child.on('message', heard)
    child.on('exit', gone)

    function heard (said) {
      if (said !== text) return
      child.off('message', heard)
      child.off('exit', gone)
      resolve()
    }

    function gone (code, signal) {
      reject(new Error(`ended before it said '${text}': ${code ?? signal}`))
    }
  })
}

/**
 * @param time longest time until it is killed, in milliseconds
 * @returns {Promise<{ ms: number, how: string }>} how long it took, and the exit code or the signal it ended by
 */
export async function stop (child, signal = 'SIGTERM', time = longest) {
  const began = performance.now()
  if (child.exitCode !== null || child.signalCode !== null) return { ms: 0, how: 'was gone' }
  const gone = once(child, 'exit')
  const kill = setTimeout(() => child.kill('SIGKILL'), time)
  child.kill(signal)
  const [code, ended] = await gone
  clearTimeout(kill)
  return { ms: performance.now() - began, how: String(code ?? ended) }
}

/** Resolves when someone listens there. */
export async function listens (port) {
  for (let tries = 0; tries < 500; tries++) {
    const answered = await new Promise(resolve => {
      const socket = createConnection(port, '127.0.0.1', () => { socket.destroy(); resolve(true) })
      socket.on('error', () => resolve(false))
    })
    if (answered) return
    await sleep(20)
  }
  throw new Error(`nothing listens on port ${port}`)
}
