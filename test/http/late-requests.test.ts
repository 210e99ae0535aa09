/** Requests that arrive while draining: they do not prolong the drain, and have a bound of their own. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { abort, connect, eventually, get } from '../helpers/client'
import { entered, rejected, serveHeld } from '../helpers/serve'

const exempt = { config: { shutdown: { exempt: true } } }

t.test('slow exempt requests of twenty clients do not prolong the drain, and each accepted one is answered', async t => {
  const { app, release, report } = await serveHeld(t, {
    routes: app => {
      app.get('/metrics', exempt, async () => {
        await sleep(100) // The time is the thing under test: a slow route.
        return 'metrics'
      })
    }
  })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  let answered = 0
  const clients = Array.from({ length: 20 }, async () => {
    for (;;) {
      const client = await connect(app).catch(() => null)
      if (client === null) return
      client.send(get('/metrics'))
      const answer = await client.answer()
      t.equal(answer.body, 'metrics')
      client.socket.destroy()
      answered++
    }
  })
  await eventually(() => answered >= 20, () => answered)
  release()
  const { durationMs } = await closing
  await Promise.all(clients)
  t.ok(durationMs < 1_500, `took ${durationMs} ms`)
  t.ok(answered >= 20)
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: answered + 1, cut: [] } })
})

t.test('an exempt request that is not over at the end of the drain is cut and counted', async t => {
  const { app, release, report } = await serveHeld(t, {
    options: { timeouts: { total: 1_000 } },
    routes: app => {
      app.get('/stuck', exempt, async () => await new Promise(() => {}))
      app.get('/stream', exempt, (_request, reply) => {
        reply.hijack()
        reply.raw.write('begun')
      })
    }
  })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  const [stuck, stream] = [await connect(app), await connect(app)]
  stuck.send(get('/stuck'))
  stream.send(get('/stream'))
  await stream.until('begun')
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  release()
  t.match(await stuck.answer(), rejected)
  await stream.over
  t.match(await closing, { outcome: 'forced', requests: { completed: 1, cut: [{ route: '/stuck' }] }, streams: { cut: 1 } })
  t.ok((await report).durationMs < 1_000)
})

t.test('requests that an earlier hook of the app holds do not prolong the drain', async t => {
  const { app, release, report } = await serveHeld(t, {
    // The time is the thing under test: the hook holds each request for longer than the rest of the drain takes.
    before: app => { app.addHook('onRequest', async request => { if (request.url !== '/hold') await sleep(100) }) }
  })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  let answered = 0
  const clients = Array.from({ length: 5 }, async () => {
    for (;;) {
      const client = await connect(app).catch(() => null)
      if (client === null) return
      client.send(get('/'))
      t.match(await client.answer(), rejected)
      client.socket.destroy()
      answered++
    }
  })
  await eventually(() => answered >= 5, () => answered)
  release()
  const { durationMs } = await closing
  t.ok(durationMs < 1_500, `took ${durationMs} ms`)
  await Promise.all(clients)
  t.match(await report, { outcome: 'clean', requests: { completed: 1, cut: [] } })
})

t.test('no resource closes while an exempt handler still runs after its client has left', async t => {
  const order: string[] = []
  const { app, release, report } = await serveHeld(t, {
    options: { resources: { database: { close () { order.push('database') } } } },
    routes: app => {
      app.get('/exempt', exempt, async () => {
        await sleep(200) // The time is the thing under test: the handler outlives the drain.
        order.push('handler')
      })
    }
  })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/exempt'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  abort(client.socket)
  release()
  await closing
  t.strictSame(order, ['handler', 'database'])
  t.match(await report, { outcome: 'clean', requests: { completed: 1, aborted: 1 } })
})

t.test('a request that arrived before draining and that an earlier hook holds is answered', async t => {
  let inHook = (): void => {}
  const held = new Promise<void>(resolve => { inHook = resolve })
  const { app, release, report } = await serveHeld(t, {
    before: app => {
      app.addHook('onRequest', async request => {
        if (request.url === '/hold') return
        inHook()
        await entered(app, 'draining')
      })
    },
    routes: app => { app.get('/', async () => 'text') }
  })
  const client = await connect(app)
  client.send(get('/'))
  await held
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  release()
  t.match(await client.answer(), { status: 200, headers: { connection: 'close' }, body: 'text' })
  await closing
  t.match(await report, { outcome: 'clean', requests: { completed: 2, rejected: 0 } })
})
