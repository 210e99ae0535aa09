/**
 * Node sets `req.socket` to null when a stream consumer leaves a request's body early: `for await`, `pipeline()`,
 * undici. The request and its connection go on, because the plugin does not read `req.socket` after the request has
 * arrived.
 */
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { Writable } from 'node:stream'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import httpProxy from '@fastify/http-proxy'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { fetch } from 'undici'
import { createDeferred } from '../../lib/util/deferred'
import { abort, connect, eventually, fetchOnce, get, post } from '../helpers/client'
import { serve } from '../helpers/serve'

type Leave = (request: FastifyRequest, upstream: string) => Promise<unknown>

/** Ways in which a handler stops reading the body of its request early. */
const ways: Record<string, Leave> = {
  async 'for await' ({ raw }) {
    for await (const chunk of raw) if (chunk !== null) break
  },
  async 'a pipeline that fails' ({ raw }) {
    await pipeline(raw, new Writable({ write (_chunk, _encoding, callback) { callback(new Error('full')) } })).catch(() => {})
  },
  async 'an iterator that returns' ({ raw }) {
    const chunks = raw[Symbol.asyncIterator]()
    await chunks.next()
    await chunks.return?.()
  },
  async 'undici, to an upstream that answers before it has read all' ({ raw }, upstream) {
    await fetch(upstream, { method: 'POST', body: raw as unknown as ReadableStream, duplex: 'half' }).then(answer => answer.text()).catch(() => {})
  }
}

/** A server that responds at once, and closes the connection. */
async function startUpstream (t: Test): Promise<string> {
  const server = http.createServer((_req, res) => { res.writeHead(200, { connection: 'close' }).end('upstream') })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const acceptRaw = (app: FastifyInstance): void => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
}
/** A request with half a body, so that the handler has the first chunk only. */
const begun = post('/first', 'x'.repeat(1_000)).slice(0, -500)
const rest = 'x'.repeat(500)

for (const track of ['count', 'detail'] as const) {
  for (const [name, leave] of Object.entries(ways)) {
    t.test(`a body whose reading ends early by ${name} (track '${track}')`, async t => {
      const upstream = await startUpstream(t)

      t.test('the request has a signal that is not aborted, and gets a complete response', async t => {
        const { app } = await serve(t, {
          options: { track },
          routes: app => {
            acceptRaw(app)
            app.post('/first', async request => {
              await leave(request, upstream)
              return { aborted: request.shutdownSignal.aborted }
            })
          }
        })
        const client = await connect(app)
        client.send(begun)
        client.send(rest)
        t.strictSame(JSON.parse((await client.answer()).body), { aborted: false })
        await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
        t.match(app.shutdownState.stats, { received: 1, completed: 1, aborted: 0 })
      })

      t.test('a shutdown in the middle waits for the response, and resources close after it', async t => {
        const [left, gate] = [createDeferred<void>(), createDeferred<void>()]
        const order: string[] = []
        const { app } = await serve(t, {
          options: { track, resources: { database: { close () { order.push('database') } } } },
          routes: app => {
            acceptRaw(app)
            app.post('/first', async request => {
              await leave(request, upstream)
              left.resolve()
              await gate.promise
              order.push('handler')
              return 'whole'
            })
          }
        })
        const client = await connect(app)
        client.send(begun)
        client.send(rest)
        await left.promise
        const report = app.shutdown.start()
        await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
        t.match(app.shutdownState.requests(), [{ method: 'POST', route: '/first' }])
        gate.resolve()
        const answer = await client.answer()
        t.match(answer, { status: 200, body: 'whole', headers: { connection: 'close' } })
        t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, aborted: 0 } })
        t.strictSame(order, ['handler', 'database'])
      })

      t.test('its signal aborts when its client leaves', async t => {
        const [asked, aborted] = [createDeferred<void>(), createDeferred<unknown>()]
        const { app } = await serve(t, {
          options: { track },
          routes: app => {
            acceptRaw(app)
            app.post('/first', async request => {
              await leave(request, upstream)
              request.shutdownSignal.addEventListener('abort', () => aborted.resolve(request.shutdownSignal.reason))
              asked.resolve()
              await aborted.promise
            })
          }
        })
        const client = await connect(app)
        // The body is complete, because Node stops reading a connection whose body is left unread, and then does not
        // see its end.
        client.send(begun + rest)
        await asked.promise
        abort(client.socket)
        t.match(await aborted.promise, { name: 'AbortError', message: 'The client has left' })
        await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
        t.match(app.shutdownState.stats, { received: 1, aborted: 1 })
      })

      t.test('a request that is cut gets its 503', async t => {
        const [left, gate] = [createDeferred<void>(), createDeferred<void>()]
        t.teardown(() => gate.resolve())
        const { app } = await serve(t, {
          options: { track, timeouts: { requests: 50 } },
          routes: app => {
            acceptRaw(app)
            app.post('/first', async request => {
              await leave(request, upstream)
              left.resolve()
              await gate.promise
              return 'too late'
            })
          }
        })
        const client = await connect(app)
        client.send(begun)
        client.send(rest)
        await left.promise
        const report = app.shutdown.start()
        t.equal((await client.answer()).status, 503)
        t.match(await report, { outcome: 'forced', requests: { cut: [{ method: 'POST' }] } })
      })
    })
  }
}

t.test('@fastify/http-proxy works with an upstream that responds before it has read the complete body', async t => {
  const upstream = await startUpstream(t)
  const { app } = await serve(t, {
    routes: async app => {
      await app.register(httpProxy, { upstream })
    }
  })
  const client = await connect(app)
  client.send(begun)
  client.send(rest)
  t.match(await client.answer(), { status: 200, body: 'upstream' })
  t.equal((await fetchOnce(app, get('/'))).status, 200)
  const report = await app.shutdown.start()
  t.match(report, { outcome: 'clean', exitCode: 0 })
  t.match(app.shutdownState.stats, { received: 2, completed: 2 })
})
