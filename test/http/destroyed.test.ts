/** Which side ended a request during a shutdown: what the server's own process destroys is cut, not aborted. */
import { once } from 'node:events'
import net, { type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { eventually, type Client } from '../helpers/client'
import { entered, serveHeld } from '../helpers/serve'
import { transports } from '../helpers/transports'
import { createDeferred } from '../../lib/util/deferred'

/** Each ends the request in flight from inside of the process. */
const destroyers: Record<string, (app: FastifyInstance) => void> = {
  'closeAllConnections()': app => { app.server.closeAllConnections() },
  'closeAllConnections() one turn later': app => { setImmediate(() => app.server.closeAllConnections()) }
}

for (const [name, destroy] of Object.entries(destroyers)) {
  for (const phase of ['lame-duck', 'draining'] as const) {
    void t.test(`a request that another plugin destroys in ${phase} with ${name} is cut, and the shutdown is not clean`, async t => {
      const { app, holder, release } = await serveHeld(t, { options: { delay: 100, track: 'detail' } })
      app.shutdown.on(phase, () => destroy(app))
      const closing = app.shutdown.start()
      await entered(app, phase)
      t.equal(await holder.over, 'end')
      release()
      const report = await closing
      t.match(report, { outcome: 'forced', exitCode: 1, requests: { completed: 0, aborted: 0, cut: [{ route: '/hold', waitsFor: 'app' }] } })
      t.match(app.shutdownState.stats, { received: 1, cut: 1, aborted: 0 })
    })
  }
}

const leaves: Record<string, (client: Client) => void> = {
  'ends its side': ({ socket }) => socket.end(),
  'destroys its socket': ({ socket }) => socket.destroy(),
  'resets its connection': ({ socket }) => socket.resetAndDestroy()
}

for (const [name, leave] of Object.entries(leaves)) {
  void t.test(`a client that ${name} during the drain is counted as aborted`, async t => {
    let socket!: Socket
    const { app, holder, release } = await serveHeld(t, {
      before: app => { app.server.once('connection', accepted => { socket = accepted }) }
    })
    const closing = app.shutdown.start()
    await entered(app, 'draining')
    const isClosed = createDeferred<void>()
    socket.once('close', isClosed.resolve)
    leave(holder)
    await isClosed.promise
    release()
    t.match(await closing, { outcome: 'clean', exitCode: 0, requests: { aborted: 1, completed: 0, cut: [] } })
  })
}

for (const transport of transports.filter(({ http2 }) => !http2)) {
  void t.test(`an answer that its handler destroys during the drain is cut over ${transport.name}`, async t => {
    const gate = createDeferred<void>()
    const { app, port } = await transport.start({}, app => {
      app.get('/', async (_request, reply) => {
        await gate.promise
        reply.hijack().raw.destroy()
      })
    })
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const answer = client.get('/').catch(() => null)
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    await entered(app, 'draining')
    gate.resolve()
    t.equal(await answer, null)
    t.match(await closing, { outcome: 'forced', requests: { cut: [{ route: '/' }], aborted: 0 } })
  })
}

for (const [name, destroy] of Object.entries<(app: FastifyInstance) => void>({
  'closeAllConnections()': app => { app.server.closeAllConnections() },
  'closeIdleConnections() in lame-duck': app => { app.server.closeIdleConnections() }
})) {
  const isIdle = name.startsWith('closeIdle')
  void t.test(`an answer of 20 MB that is being flushed is ${isIdle ? 'whole after' : 'cut by'} ${name}`, async t => {
    const { app, port } = await transports[0]!.start({ delay: 100 }, app => { app.get('/', async () => Buffer.alloc(20_000_000, 'x')) })
    const client = net.connect(port, '127.0.0.1')
    t.teardown(() => client.destroy())
    let length = 0
    client.on('data', chunk => { length += chunk.length }).on('error', () => {})
    client.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
    await once(client, 'data')
    client.pause()
    app.shutdown.on(isIdle ? 'lame-duck' : 'draining', () => {
      destroy(app)
      client.resume()
    })
    const closed = once(client, 'close')
    const report = await app.shutdown.start()
    await closed
    if (isIdle) {
      t.ok(length > 20_000_000, `${length} bytes`)
      t.match(report, { outcome: 'clean', requests: { cut: [] } })
    } else {
      t.ok(length < 20_000_000, `${length} bytes`)
      t.match(report, { outcome: 'forced', exitCode: 1 })
    }
  })
}
