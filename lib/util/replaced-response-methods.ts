/** Every method that is replaced on a response: see `replaced-methods.ts`. */
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { kHeadChanges } from '../symbols'
import { overrideMethod, replaceMethod } from './replaced-methods'

type Method = (...args: unknown[]) => unknown

/**
 * Replaces `res.writeHead` once: if the status is 500 or more, it calls `answer`, which writes another answer and calls
 * `ignoreWrites`.
 *
 * Why: a handler fails if its signal aborts, and its client should get our 503 and not the error. Public alternative:
 * none for a response that Fastify writes. Without it, the client gets the 500.
 */
export function replaceFailure (res: ServerResponse, answer: (res: ServerResponse) => void): void {
  const restore = replaceMethod(res, 'writeHead', original => function (
    this: ServerResponse, status: number, ...rest: unknown[]
  ) {
    restore()
    if (status < 500 || res.headersSent) return (original as Method).call(res, status, ...rest)
    answer(res)
    return res
  } as ServerResponse['writeHead'])
}

/** The methods of a response that throw, or emit an error, after the response has ended. */
const writeMethods = [
  'writeHead', 'setHeader', 'setHeaders', 'appendHeader', 'removeHeader', 'flushHeaders', 'addTrailers',
  'writeContinue', 'writeProcessing', 'end'
] as const satisfies readonly (keyof ServerResponse)[]

/**
 * Replaces the methods of a response that write: they do nothing.
 *
 * Why: the code that was about to answer a request does not notice that the request has been cut. Its `writeHead`
 * throws then, and its `write` emits an error, in a timer of the app or of a library (engine.io). Public alternative:
 * none. Without it, such code causes an uncaught exception during the shutdown.
 */
export function ignoreWrites (res: ServerResponse): void {
  for (const name of writeMethods) overrideMethod(res, name, (() => res) as never)
  overrideMethod(res, 'write', () => true)
}

/** The arguments of `writeHead`: the status, and then a reason, headers, both or none. */
type HeadArguments = [status: number, ...rest: unknown[]]

/** A response with the changes of its headers. */
type ChangedResponse = ServerResponse & { [kHeadChanges]?: ((args: HeadArguments) => void)[] }

/**
 * Calls `change` once with the arguments of `res.writeHead`, right before the headers are written.
 *
 * All changes of one response share one replaced method, and it is not restored. After a `delete`, V8 keeps the
 * properties of a response in a dictionary, and a 503 then took four times as long.
 */
function changeHead (res: ChangedResponse, change: (args: HeadArguments) => void): void {
  const known = res[kHeadChanges]
  if (known !== undefined) {
    known.push(change)
    return
  }
  const changes = [change]
  const original = res.writeHead as Method
  const method = (...args: HeadArguments): unknown => {
    for (const each of changes.splice(0)) each(args)
    return original.apply(res, args)
  }
  if (Reflect.set(res, 'writeHead', method)) Reflect.set(res, kHeadChanges, changes)
}

/**
 * Replaces `res.writeHead`: if `isLast` then returns true, the answer has `Connection: close` and no `Keep-Alive`,
 * whatever the app has set.
 *
 * Why: a route or a proxied upstream may set `Connection: keep-alive`, and its client would then use a connection that
 * closes (RFC 9112, section 9.6). Public alternative: none. `res.shouldKeepAlive` only matters if the app has set no
 * `Connection` header. Without it, such a client is reset at its next request.
 */
export function closeInHead (res: ServerResponse, isLast: () => boolean): void {
  changeHead(res, args => {
    if (!isLast() || res.headersSent) return
    res.removeHeader('keep-alive')
    const given = args.findIndex(arg => typeof arg === 'object' && arg !== null)
    if (given !== -1) args[given] = withoutConnection(args[given] as object)
    // Node writes headers faster if all of them are in one object, and none were set before.
    if (given !== -1 && !Array.isArray(args[given])) (args[given] as Record<string, unknown>)['Connection'] = 'close'
    else res.setHeader('Connection', 'close')
  })
}

/**
 * Returns a copy of headers in the form in which `writeHead` got them, without `Connection` and `Keep-Alive`. The forms
 * are an object, a list of names and values in turn, and a list of pairs.
 */
function withoutConnection (headers: object): object {
  if (!Array.isArray(headers)) {
    const copy: Record<string, unknown> = { ...headers }
    for (const name in copy) if (isConnection(name)) delete copy[name]
    return copy
  }
  // Node accepts no pairs if other headers have been set with `setHeader`.
  const flat = headers.some(Array.isArray) ? headers.flat() : headers
  return flat.filter((_each, index) => !isConnection(flat[index - index % 2]))
}

/** Both names have ten characters. The length is compared first, because this runs for each header of each answer. */
function isConnection (name: unknown): boolean {
  return String(name).length === 10 && /^(?:connection|keep-alive)$/i.test(String(name))
}

/**
 * Replaces `res.writeHead`: if the status is 503 and the header is missing, it adds the header.
 *
 * Why: each 503 of a shutdown has a Retry-After header, also a 503 of a handler, of another plugin, or of Fastify
 * (`handlerTimeout`). Public alternative: an `onSend` hook, which costs time on each request of a running server, and
 * does not run for all of them. Without it, such a 503 has no Retry-After header.
 *
 * @param value creates the value of the header
 */
export function addHeaderTo503 (res: ServerResponse, name: string, value: () => number): void {
  changeHead(res, args => {
    if (args[0] === 503 && !hasHeader(res, name, args.at(-1))) res.setHeader(name, value())
  })
}

/** Returns whether a response has a header, or gets it from an argument of `writeHead`: an object or an array. */
function hasHeader (res: ServerResponse, name: string, headers: unknown): boolean {
  if (res.hasHeader(name)) return true
  if (typeof headers !== 'object' || headers === null) return false
  if (Object.hasOwn(headers, name)) return true
  // An array has names and values in turn, or pairs of them.
  const names = Array.isArray(headers) ? headers.flat().filter((_each, index) => index % 2 === 0) : Object.keys(headers)
  return names.some(each => String(each).toLowerCase() === name)
}

/**
 * Replaces `reply.log` of one request: Fastify's line about `error` has level info instead of error.
 *
 * Why: an error handler of the app may pass the error of a rejection on (`reply.send(error)`), and Fastify then logs
 * each 503 of a normal shutdown at level error. Public alternative: `logController`, an option of the app itself.
 * Without it, there is one line at level error for each rejected request.
 */
export function logAsInfo (reply: FastifyReply, error: Error): void {
  const { log } = reply
  const write = (first: unknown, ...rest: unknown[]): void => {
    const level = (first as { readonly err?: unknown } | null)?.err === error ? 'info' : 'error'
    ;(log[level] as Method).call(log, first, ...rest)
  }
  Reflect.set(reply, 'log', Object.create(log, { error: { value: write } }))
}
