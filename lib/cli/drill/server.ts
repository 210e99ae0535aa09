/** The server under the drill: a command that the drill starts, or a process that runs already. */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createDeferred } from '../../util/deferred'
import { now, sleep, within } from '../../util/time'
import { CannotRunError } from './cannot-run'
import type { Interruption } from './interruption'
import { isRunning } from './process-table'
import { treeVariable, watchTree, type ProcessTree } from './process-tree'

/** How a process ended. */
export interface ProcessEnd {
  /** When it ended, on the clock of `now()`. */
  readonly at: number
  /** `null` if a signal ended it, or if it is unknown. */
  readonly code: number | null
  /** The signal that ended it. */
  readonly signal: string | null
}

/** The server under the drill. */
export interface Server {
  readonly pid: number
  /** Whether the drill has started it, and may end it. */
  readonly owned: boolean
  readonly tree: ProcessTree
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>
  /** How it ended; `null` while it runs. */
  readonly end: ProcessEnd | null
  /** What it has printed: the last 4 Mi characters of both outputs. */
  readonly output: string
  /** @throws CannotRunError if the signal cannot be sent */
  signal (name: NodeJS.Signals): void
  /** Ends the watching. A server that the drill has started is killed, with its tree. */
  release (): Promise<void>
}

/** Longest output that is kept, in characters. */
const longestOutput = 4 * 2 ** 20

/** Longest wait for the end of processes that were killed, in milliseconds. */
const killMs = 2_000

/** Interval for looking at a process that is not a child, in milliseconds. */
const lookInterval = 20

/** Starts a command in a session of its own. @throws CannotRunError if it cannot be started */
export async function startServer (command: readonly string[], interruption: Interruption): Promise<Server> {
  const [program = '', ...args] = command
  const mark = randomUUID()
  const env = { ...process.env, [treeVariable]: mark }
  const child = spawn(program, args, { detached: true, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: string[] = []
  let length = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      chunks.push(chunk)
      length += chunk.length
      while (length > longestOutput && chunks.length > 1) length -= chunks.shift()!.length
    })
  }
  const { promise: ended, resolve } = createDeferred<ProcessEnd>()
  let end: ProcessEnd | null = null
  child.once('exit', (code, signal) => {
    end = { at: now(), code, signal }
    resolve(end)
  })
  const closed = new Promise<void>(resolve => { child.once('close', () => resolve()) })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (error: NodeJS.ErrnoException) => {
      const reasons: Record<string, string> = { ENOENT: 'there is no such command', EACCES: 'it is not executable' }
      reject(new CannotRunError(`cannot start '${program}': ${reasons[error.code ?? ''] ?? error.message}`))
    })
  })
  const pid = child.pid!
  const tree = watchTree(pid, true, mark)
  const forget = interruption.onEnd(() => tree.kill())
  return {
    pid,
    owned: true,
    tree,
    ended,
    get end () { return end },
    get output () { return chunks.join('') },
    signal (name) { sendSignal(pid, name) },
    async release () {
      tree.stop()
      tree.kill()
      for (const deadline = now() + killMs; tree.descendants().length > 0 && now() < deadline;) await sleep(10)
      // A process outside of the tree may keep the outputs open.
      await ended
      await within(500, () => closed)
      child.stdout.destroy()
      child.stderr.destroy()
      forget()
    }
  }
}

/** Watches a process that runs already. @throws CannotRunError if there is no such process */
export function adoptServer (pid: number, interruption: Interruption): Server {
  if (!isRunning(pid)) throw new CannotRunError(`there is no process ${pid}`)
  const tree = watchTree(pid, false)
  let end: ProcessEnd | null = null
  const watch = { released: false }
  const forget = interruption.onEnd(() => { watch.released = true })
  const ended = (async () => {
    while (isRunning(pid) && !watch.released) await sleep(lookInterval)
    end = { at: now(), code: null, signal: null }
    return end
  })()
  return {
    pid,
    owned: false,
    tree,
    ended,
    get end () { return end },
    output: '',
    signal (name) { sendSignal(pid, name) },
    async release () {
      watch.released = true
      tree.stop()
      forget()
    }
  }
}

function sendSignal (pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CannotRunError(code === 'EPERM'
      ? `process ${pid} belongs to another user: ${name} cannot be sent`
      : `process ${pid} ended before the signal`)
  }
}
