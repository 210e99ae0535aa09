/** The methods that are replaced on a response, and on a reply of Fastify. `replaced-methods.ts` has the rules. */
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { hasRemovedConnection, headersSent } from './node-internals'
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

/**
 * Replaces `res.writeHead` of an answer of a draining server:
 * - If `isLast` returns true at that time, the answer has `Connection: close` and no `Keep-Alive`, also if the app has
 *   set another value. A route or a proxied upstream may set `Connection: keep-alive`, and its client would then use a
 *   connection that closes (RFC 9112, section 9.6).
 * - A 503 without a `Retry-After` header gets one: also a 503 of a handler, of another plugin, or of Fastify
 *   (`handlerTimeout`).
 *
 * Why: both depend on the headers that the app finally writes. Public alternative: an `onSend` hook, which costs time
 * on each request of a running server, and does not run for all answers. Without it, a client is reset at its next
 * request, or gets a 503 without the time after which it may retry.
 *
 * The method is not restored. After a `delete`, V8 keeps the properties of a response in a dictionary, and a 503 then
 * took four times as long.
 */
export function changeHead (res: ServerResponse, isLast: () => boolean, retryAfter: () => number): void {
  const original = res.writeHead as Method
  // The method of a library may set the header after us.
  const isReplaced = Object.hasOwn(res, 'writeHead')
  Reflect.set(res, 'writeHead', (...args: [status: unknown, ...rest: unknown[]]): unknown => {
    if (!headersSent(res)) {
      const position = isObject(args[1]) ? 1 : 2
      if (isLast() && (isReplaced || mustSetClose(res, args[position]))) {
        res.removeHeader('keep-alive')
        args[position] = addHeader(res, withoutConnection(args[position]), 'Connection', 'close')
      }
      if (Number(args[0]) === 503 && !hasHeader(res, 'retry-after', args[position])) {
        args[position] = addHeader(res, args[position], 'Retry-After', retryAfter())
      }
    }
    return original.apply(res, args)
  })
}

/**
 * Returns whether `Connection: close` must be set. Node adds it itself, which is faster, if `res.shouldKeepAlive` is
 * false, and the app has neither set nor removed such a header.
 */
function mustSetClose (res: ServerResponse, headers: unknown): boolean {
  return res.shouldKeepAlive || hasHeader(res, 'connection', headers) || hasHeader(res, 'keep-alive', headers) ||
    hasRemovedConnection(res)
}

/**
 * Adds a header to a copy of the headers that `writeHead` got, and returns the copy. `setHeader` is only for a call
 * without headers, because Node 20 then writes only the last of several headers of the same name in a list, and accepts
 * no pairs.
 */
function addHeader (res: ServerResponse, headers: unknown, name: string, value: string | number): unknown {
  if (!isObject(headers)) {
    res.setHeader(name, value)
    return headers
  }
  if (!Array.isArray(headers)) return { ...headers, [name]: value }
  return [...headers as unknown[], ...isPairs(headers) ? [[name, value]] : [name, value]]
}

/**
 * Returns a copy of the headers without `Connection` and `Keep-Alive`, in the form in which `writeHead` got them: an
 * object, a list of names and values in turn, or a list of pairs.
 */
function withoutConnection (headers: unknown): unknown {
  if (!isObject(headers)) return headers
  if (!Array.isArray(headers)) {
    return Object.fromEntries(Object.entries(headers).filter(([name]) => !isConnection(name)))
  }
  if (isPairs(headers)) return (headers as unknown[][]).filter(([name]) => !isConnection(name))
  return headers.filter((_each, index) => !isConnection(headers[index - index % 2]))
}

function isConnection (name: unknown): boolean {
  return isSame(String(name), 'connection') || isSame(String(name), 'keep-alive')
}

/** Returns whether a response has a header, or gets it from an argument of `writeHead`: an object or an array. */
function hasHeader (res: ServerResponse, name: string, headers: unknown): boolean {
  if (res.hasHeader(name)) return true
  if (!isObject(headers)) return false
  if (Array.isArray(headers)) {
    if (isPairs(headers)) return (headers as unknown[][]).some(([each]) => isSame(String(each), name))
    return headers.some((each, index) => index % 2 === 0 && isSame(String(each), name))
  }
  // This runs for each header of each answer, and creates no array. Node does not write inherited headers.
  for (const each in headers) if (isSame(each, name) && Object.hasOwn(headers, each)) return true
  return false
}

/** Returns whether a list contains pairs. Node decides it by the first element, because a value may be an array. */
function isPairs (headers: readonly unknown[]): boolean {
  return Array.isArray(headers[0])
}

function isSame (given: string, name: string): boolean {
  return given.length === name.length && given.toLowerCase() === name
}

function isObject (value: unknown): value is object {
  return typeof value === 'object' && value !== null
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
