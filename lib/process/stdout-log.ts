/**
 * The log of a plain server that has no logger: one line of JSON for each entry of level info and above, in the format
 * of pino, to stdout.
 */
import { hostname } from 'node:os'

/** The methods of a logger that the shutdown uses: those of pino. */
export interface ShutdownLog {
  debug: LogMethod
  info: LogMethod
  warn: LogMethod
  error: LogMethod
  /** Writes what is buffered. The callback is called after it. */
  flush?(callback: (error?: Error) => void): void
}

/** Writes an entry: a message, or fields and a message. */
export type LogMethod = (fields: any, message?: string) => void // any: pino's own methods have several signatures

const levels = { info: 30, warn: 40, error: 50 } as const

/** A log without lines. */
export const noLog: ShutdownLog = { debug () {}, info () {}, warn () {}, error () {} }

/** Creates the log. */
export function createStdoutLog (): ShutdownLog {
  const host = hostname()
  const method = (level: keyof typeof levels): LogMethod => (fields, message) => {
    const given: object = typeof fields === 'string' ? { msg: fields } : { ...withError(fields), msg: message }
    write(JSON.stringify({ level: levels[level], time: Date.now(), pid: process.pid, hostname: host, ...given }) + '\n')
  }
  return {
    debug () {},
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    flush (callback) { write('', callback) }
  }
}

/** How many writes are not over. */
let writes = 0

/**
 * Writes to stdout, and ignores its errors, such as EPIPE. Without a listener, the error would end the process.
 * console.log ignores only the first of several errors in one turn of the event loop.
 */
function write (text: string, callback = () => {}): void {
  const { stdout } = process
  if (writes++ === 0) stdout.on('error', ignore)
  stdout.write(text, () => {
    // Node emits the error after this callback.
    setImmediate(() => {
      if (--writes === 0) stdout.removeListener('error', ignore)
      callback()
    })
  })
}

function ignore (): void {}

/** Replaces `err` by its fields, because JSON shows none of an Error. */
function withError (fields: { readonly err?: unknown }): object {
  const { err } = fields
  if (!(err instanceof Error)) return fields
  const { name, message, stack, code } = err as NodeJS.ErrnoException
  return { ...fields, err: { type: name, message, stack, code } }
}
