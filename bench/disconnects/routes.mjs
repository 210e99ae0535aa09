/** The routes of the soak: each way in which a handler answers, streams, gives its answer away or never ends. */
import { createReadStream, openSync, read } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

/** Bytes of the file that `/file` sends: more than the buffers of a connection whose client does not read. */
const fileSize = 256 * 1_024

/** Bytes of each upload. A client that leaves during its body sends half of them. */
export const uploadSize = 64 * 1_024

/** Node's own executable: a large file that is always there. */
const file = process.execPath

/**
 * One descriptor for all streams of the file. Bare Fastify never closes a stream that it gets when its HTTP/2 client
 * has left, and the soak would use up the descriptors of the process.
 */
let descriptor
const shared = { read, close: (_descriptor, done) => { done() } }

/**
 * A route answers at once (`answers`), answers in parts (`streams`), reads a body (`uploads`), ends its connection
 * itself (`destroys`), holds its answer until the client leaves (`holds`), or has a handler that never ends (`never`).
 * Its handler waits `:ms` milliseconds.
 */
export const routes = [
  { kind: 'answers', path: '/sync/:ms', handler: (_request, reply) => { reply.send('answer') } },
  { kind: 'answers', path: '/callback/:ms', handler: (request, reply) => { setTimeout(() => reply.send('answer'), request.params.ms) } },
  { kind: 'answers', path: '/async/:ms', handler: async request => { await wait(request); return 'answer' } },
  { kind: 'answers', path: '/async-error/:ms', handler: async request => { await wait(request); throw new Error('on purpose') } },
  { kind: 'answers', path: '/return-reply/:ms', handler: async (request, reply) => { setTimeout(() => reply.send('answer'), request.params.ms); return reply } },
  { kind: 'answers', path: '/return-reply-sync/:ms', handler: (request, reply) => { setTimeout(() => reply.send('answer'), request.params.ms); return reply } },
  { kind: 'answers', path: '/await-reply/:ms', handler: async (request, reply) => { setTimeout(() => reply.send('answer'), request.params.ms); await reply } },
  { kind: 'answers', path: '/return-send/:ms', handler: async (request, reply) => { await wait(request); return reply.send('answer') } },
  { kind: 'answers', path: '/thenable/:ms', handler: request => lazyQuery(request, 'answer') },
  { kind: 'answers', path: '/hijack/:ms', handler: hijack },
  { kind: 'answers', path: '/hook-hijack/:ms', onRequest: hijack, handler: notReached },

  { kind: 'streams', path: '/stream/:ms', handler: (request, reply) => { reply.send(ticks(request)) } },
  { kind: 'streams', path: '/async-stream/:ms', handler: async (request, reply) => reply.send(ticks(request)) },
  { kind: 'streams', path: '/late-stream/:ms', handler: async (request, reply) => { await wait(request); return reply.send(ticks(request)) } },
  { kind: 'streams', path: '/returned-stream/:ms', handler: async request => { await wait(request); return ticks(request) } },
  { kind: 'streams', path: '/file/:ms', handler: (request, reply) => { sendFile(request, reply); return reply } },
  { kind: 'streams', path: '/async-file/:ms', handler: async (request, reply) => { await wait(request); sendFile(request, reply); return reply } },
  { kind: 'streams', path: '/hijack-stream/:ms', handler: writeByHand },

  { kind: 'uploads', path: '/upload/:ms', method: 'POST', handler: async request => `${request.body.length} bytes` },
  { kind: 'uploads', path: '/upload-whole/:ms', method: 'POST', type: 'application/octet-stream', handler: readWhole },
  { kind: 'uploads', path: '/upload-half/:ms', method: 'POST', type: 'application/octet-stream', handler: readHalf },

  { kind: 'destroys', path: '/destroy/:ms', handler: (_request, reply) => { reply.raw.destroy() } },
  { kind: 'destroys', path: '/async-destroy/:ms', handler: async (request, reply) => { await wait(request); reply.raw.destroy() } },
  { kind: 'destroys', path: '/destroy-socket/:ms', handler: (request, _reply) => { request.raw.socket.destroy() } },
  { kind: 'destroys', path: '/hook-destroy/:ms', onRequest: (_request, reply, _done) => { reply.raw.destroy() }, handler: notReached },
  { kind: 'destroys', path: '/hook-destroy-socket/:ms', onRequest: (request, _reply, _done) => { request.raw.socket.destroy() }, handler: notReached },

  { kind: 'holds', path: '/hijack-held/:ms', handler: holdUntilClose },
  { kind: 'holds', path: '/hook-hijack-held/:ms', onRequest: holdUntilClose, handler: notReached },
  { kind: 'holds', path: '/endless-stream/:ms', handler: (request, reply) => { reply.send(follow(request, new Readable({ read () {} }))) } },
  { kind: 'holds', path: '/async-endless-stream/:ms', handler: async (request, reply) => reply.send(follow(request, new Readable({ read () {} }))) },

  { kind: 'never', path: '/never/:ms', handler: () => {} },
  { kind: 'never', path: '/never-async/:ms', handler: async () => { await new Promise(() => {}) } },
  { kind: 'never', path: '/never-await-reply/:ms', handler: async (_request, reply) => { await reply } },
  { kind: 'never', path: '/never-return-reply/:ms', handler: async (_request, reply) => reply },
  { kind: 'never', path: '/never-hijack/:ms', handler: (_request, reply) => { reply.hijack() } },
  { kind: 'never', path: '/never-thenable/:ms', handler: () => ({ then () {} }) },
  { kind: 'never', path: '/never-source/:ms', handler: async (request, reply) => reply.send(follow(request, Readable.from(silence()))) }
]

/** What the routes know themselves. */
export const seen = {
  /** Calls of `then` on a lazy thenable beyond the first: each of them would be a second query. */
  repeated: 0,
  /**
   * Handlers that wait, by transport and route. Their requests must count as in flight, also if their client has left.
   */
  running: new Map(),
  /**
   * Sources that handlers gave away and that are not closed, by transport and route. Their requests may count as in
   * flight.
   */
  open: new Map()
}

/** @param transport the name of this server */
export function addRoutes (app, transport) {
  app.decorateRequest('transport', { getter: () => transport })
  descriptor ??= openSync(file)
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => { done(null, payload) })
  for (const { path, method = 'GET', handler, onRequest } of routes) {
    app.route({ method, url: path, handler, ...(onRequest !== undefined && { onRequest }) })
  }
}

async function wait (request) {
  add(seen.running, request, 1)
  await sleep(Number(request.params.ms))
  add(seen.running, request, -1)
}

/** As the query builders of databases: the query runs when `then` is called. */
function lazyQuery (request, value) {
  let called = false
  return {
    then (resolve) {
      if (called) seen.repeated++
      called = true
      setTimeout(resolve, request.params.ms, value)
    }
  }
}

/** A handler that has hijacked is over when it ends the response, also if its client has left. */
function hijack (request, reply) {
  reply.hijack()
  setTimeout(() => {
    if (!reply.raw.destroyed) reply.raw.writeHead(200, { 'content-length': 6 })
    reply.raw.end('answer')
  }, request.params.ms)
}

/** A handler that has hijacked and listens to the close is over when its client leaves. */
function holdUntilClose (_request, reply) {
  reply.hijack()
  reply.raw.once('close', () => {})
}

/** Eight parts, `:ms` milliseconds apart. */
function ticks (request) {
  let left = 8
  let timer
  return follow(request, new Readable({
    read () { timer = setTimeout(() => this.push(left-- > 0 ? 'part' : null), request.params.ms) },
    destroy (error, done) {
      clearTimeout(timer)
      done(error)
    }
  }))
}

/** @returns the source, which is open until it emits 'close' */
function follow (request, source) {
  add(seen.open, request, 1)
  source.once('close', () => add(seen.open, request, -1))
  return source
}

function add (counts, { transport, method, routeOptions: { url } }, n) {
  const route = `${transport} ${method} ${url}`
  counts.set(route, (counts.get(route) ?? 0) + n)
}

/** As @fastify/static does: the answer begins when the file system has answered. */
async function sendFile (request, reply) {
  await stat(file)
  const source = follow(request, createReadStream(file, { fd: descriptor, fs: shared, start: 0, end: fileSize - 1 }))
  reply.header('content-length', fileSize).type('application/octet-stream').send(source)
}

function writeByHand (request, reply) {
  reply.hijack()
  let left = 8
  reply.raw.writeHead(200, { 'content-type': 'text/plain' })
  const timer = setInterval(() => {
    if (reply.raw.destroyed) return clearInterval(timer)
    if (left-- > 0) return reply.raw.write('part')
    clearInterval(timer)
    reply.raw.end()
  }, Number(request.params.ms))
}

async function readWhole (request) {
  let bytes = 0
  for await (const chunk of request.body) bytes += chunk.length
  return `${bytes} bytes`
}

/** To leave `for await` destroys the body, and with it the connection of an HTTP/1 request that is not complete. */
async function readHalf (request) {
  let bytes = 0
  for await (const chunk of request.body) {
    bytes += chunk.length
    if (bytes >= uploadSize / 2) break
  }
  return `${bytes} bytes`
}

/** A source whose generator waits forever: it never closes, because its end waits for the generator. */
async function * silence () {
  yield 'part'
  await new Promise(() => {})
}

function notReached () {
  throw new Error('The onRequest hook gave the answer away')
}
