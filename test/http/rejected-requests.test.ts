/** Rejected requests whose 503 the app does not send, because a hook or the error handler hangs, is slow, or fails. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { connect, eventually, fetchOnce, get, openSession } from '../helpers/client'
import { entered, rejected, serve, serveHeld, type Setup } from '../helpers/serve'

const never = (): Promise<never> => new Promise(() => {})
/** Longer than a rejected request waits for the app. */
const late = 1_500

/** Code of the app that hangs or is slow for rejected requests. The request that holds the drain open is not slowed. */
const slow: Record<string, Pick<Setup, 'routes' | 'options' | 'before'>> = {
  'an async onSend hook that never settles': {
    routes: app => { app.addHook('onSend', async request => request.url === '/hold' ? undefined : await never()) }
  },
  'an onSend hook that never calls back': {
    routes: app => { app.addHook('onSend', (request, _reply, _payload, done) => { if (request.url === '/hold') done() }) }
  },
  'an onSend hook that calls back late': {
    routes: app => { app.addHook('onSend', (request, _reply, _payload, done) => { setTimeout(done, request.url === '/hold' ? 0 : late) }) }
  },
  'an onSend hook that calls back late with an error': {
    routes: app => {
      app.addHook('onSend', (request, _reply, _payload, done) => {
        if (request.url === '/hold') done()
        else setTimeout(() => done(new Error('too late')), late)
      })
    }
  },
  'an error handler that never sends': { routes: app => { app.setErrorHandler(() => {}) } },
  'an async error handler that never settles': { routes: app => { app.setErrorHandler(never) } },
  'an error handler that sends late': {
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => {
        setTimeout(() => {
          reply.raw.setHeader('x-late', '1')
          reply.code(503).send({ late: true })
        }, late)
      })
    }
  },
  'an error handler that hijacks and writes late': {
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => {
        reply.hijack()
        setTimeout(() => {
          reply.raw.writeHead(500, { 'x-late': '1' })
          reply.raw.write('late')
          reply.raw.end()
        }, late)
      })
    }
  },
  'an error handler that throws late': {
    routes: app => {
      app.setErrorHandler(async () => {
        await sleep(late)
        throw new Error('too late')
      })
    }
  },
  'an onError hook that never settles': {
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => reply.code(503).send('own'))
      app.addHook('onError', never)
    }
  },
  'a preSerialization hook that never settles': {
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => reply.code(503).send({ own: true }))
      app.addHook('preSerialization', never)
    }
  },
  'an errorResponseBuilder that never settles': { options: { errorResponseBuilder: never } },
  'an errorResponseBuilder that is late': {
    options: {
      errorResponseBuilder: async () => {
        await sleep(late)
        return { late: true }
      }
    }
  }
}

t.test('the client gets the plain 503 within a second, and nothing after it', { jobs: Object.keys(slow).length }, async t => {
  const uncaught: unknown[] = []
  const keep = (error: unknown): void => { uncaught.push(error) }
  process.on('uncaughtException', keep)
  t.teardown(() => process.off('uncaughtException', keep))
  await Promise.all(Object.entries(slow).map(([name, setup]) => t.test(name, { buffered: true }, async t => {
    const { app, release, report } = await serveHeld(t, setup)
    const closed = app.close()
    await entered(app, 'draining')
    const client = await connect(app)
    const began = performance.now()
    client.send(get('/rejected'))
    const injected = app.inject('/rejected')
    t.match(await client.answer(), rejected)
    t.match(await injected, { statusCode: 503, headers: { 'retry-after': '10' } })
    const took = performance.now() - began
    t.ok(took < 2_000, `took ${took} ms`)
    t.equal(await client.over, 'end')
    t.equal(client.rest, '')
    if (name.includes('late')) await sleep(late - took + 50)
    release()
    await closed
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 2, cut: [] } })
  })))
  t.strictSame(uncaught, [])
})

t.test('the client gets the plain 503 over HTTP/2, too', async t => {
  const gate = createDeferred<void>()
  const { app } = await serve(t, {
    fastify: { http2: true },
    routes: app => {
      app.addHook('onSend', async request => request.url === '/hold' ? undefined : await never())
      app.get('/hold', async () => await gate.promise)
    }
  })
  const held = openSession(app).get('/hold')
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const report = app.shutdown.start()
  await entered(app, 'draining')
  t.match(await openSession(app).get('/rejected'), { status: 503, headers: { 'retry-after': '10' }, error: null })
  gate.resolve()
  t.match(await held, { status: 200, error: null })
  t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
})

t.test('ten thousand rejected requests whose hooks hang share one timer', async t => {
  const { app, release, report } = await serveHeld(t, slow['an errorResponseBuilder that never settles'])
  const closed = app.close()
  await entered(app, 'draining')
  const timers = (): number => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const before = timers()
  const answers = Array.from({ length: 10_000 }, async () => (await app.inject('/rejected')).statusCode)
  await eventually(() => app.shutdownState.stats.received === 10_001, () => app.shutdownState.stats)
  t.ok(timers() <= before + 1, `${timers() - before} timers`)
  t.strictSame(new Set(await Promise.all(answers)), new Set([503]))
  release()
  await closed
  t.match(await report, { outcome: 'clean', requests: { rejected: 10_000 } })
})

t.test('if the drain over HTTP/2 has less than a second, the plain 503 comes before its end', async t => {
  for (const timeouts of [{ total: 800 }, { requests: 300, streams: 300 }]) {
    const { app } = await serve(t, {
      fastify: { http2: true },
      options: { timeouts },
      routes: app => { app.addHook('onSend', never) }
    })
    const first = openSession(app)
    await once(first.session, 'connect')
    const report = app.shutdown.start()
    await entered(app, 'draining')
    t.match(await openSession(app).get('/rejected'), { status: 503, headers: { 'retry-after': '10' }, error: null })
    t.match(await report, { outcome: 'clean', requests: { rejected: 1, cut: [] } })
  }
})

t.test('if the drain has less than a second, the plain 503 comes before its end', async t => {
  const { app, report } = await serveHeld(t, { ...slow['an async onSend hook that never settles'], options: { timeouts: { requests: 200, streams: 200, tasks: 200, resources: 200, total: 400 } } })
  const closed = app.close()
  await entered(app, 'draining')
  const answer = fetchOnce(app, get('/rejected'))
  t.match(await answer, rejected)
  await closed
  t.match(await report, { requests: { rejected: 1, cut: [{ route: '/hold' }] } })
})

t.test('a shutdown is not clean if the plain 503 cannot be written', async t => {
  const { app, release, report } = await serveHeld(t, {
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => {
        reply.raw.writeHead = () => { throw new Error('middleware') }
      })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/rejected'))
  await client.over
  t.equal(client.rest, '')
  release()
  await closed
  t.match(await report, { outcome: 'failed', requests: { completed: 1, rejected: 0, cut: [{ method: 'GET' }] } })
})

t.test('a shutdown is not clean if the answer to a rejected request begins and never ends', async t => {
  const { app, release, report } = await serveHeld(t, {
    options: { timeouts: { total: 1_500 } },
    routes: app => {
      app.setErrorHandler((_error, _request, reply) => {
        reply.hijack()
        reply.raw.writeHead(503, { 'retry-after': '1' }).write('begun')
      })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/rejected'))
  await client.until('begun')
  release()
  await closed
  t.match(await report, { outcome: 'forced', streams: { cut: 1 } })
})

t.test('no resource closes while the error handler of a rejected request still runs after its client has left', async t => {
  const order: string[] = []
  let began = (): void => {}
  const begun = new Promise<void>(resolve => { began = resolve })
  const { app, release, report } = await serveHeld(t, {
    options: { resources: { database: { close () { order.push('database') } } } },
    routes: app => {
      app.setErrorHandler(async (_error, _request, reply) => {
        began()
        await sleep(200) // The time is the thing under test: the handler outlives the rest of the shutdown.
        order.push('error handler')
        return reply.code(503).send('own')
      })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/rejected'))
  await begun
  client.socket.destroy()
  release()
  await closed
  t.strictSame(order, ['error handler', 'database'])
  t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 0, aborted: 1 } })
})
