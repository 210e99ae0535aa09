/** @fastify/middie: middleware that answers by itself, or that works before the handler, is in flight like a handler. */
import type { ServerResponse } from 'node:http'
import middie from '@fastify/middie'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { abort, connect, eventually, fetchOnce, get, type Client } from '../helpers/client'
import { entered, rejected, serve, serveHeld } from '../helpers/serve'

type Next = (error?: Error) => void

const middleware = async (app: FastifyInstance): Promise<void> => {
  await app.register(middie)
  app.use('/answers', (_req: unknown, res: ServerResponse) => { setTimeout(() => res.end('whole'), 150) })
  app.use('/writes', (_req: unknown, res: ServerResponse) => {
    res.writeHead(200, { 'content-type': 'text/plain', connection: 'keep-alive' })
    res.write('wh')
    setTimeout(() => res.end('ole'), 150)
  })
  app.use('/waits', (_req: unknown, _res: unknown, next: Next) => { setTimeout(next, 150) })
  app.use('/fails', (_req: unknown, _res: unknown, next: Next) => { setTimeout(() => next(new Error('no')), 150) })
  app.use('/busy', (_req: unknown, res: ServerResponse) => {
    setTimeout(() => {
      res.statusCode = 503
      res.end('busy')
    }, 150)
  })
}
const routes = (app: FastifyInstance): void => { app.get('/waits', async () => 'whole') }

for (const [place, setup] of Object.entries({
  'before the plugin': { before: middleware, routes },
  'after the plugin': {
    routes: async (app: FastifyInstance) => {
      await middleware(app)
      routes(app)
    }
  }
})) {
  t.test(`registered ${place}: each answer in flight arrives whole, and its connection ends`, async t => {
    const { app, report } = await serve(t, setup)
    const paths = ['/answers', '/writes', '/waits', '/fails', '/busy']
    const clients: Client[] = []
    for (const path of paths) {
      const client = await connect(app)
      client.send(get(path))
      clients.push(client)
    }
    await eventually(() => app.shutdownState.activeRequests + app.shutdownState.activeStreams === paths.length, () => app.shutdownState)
    const closing = app.shutdown.start()
    const answers = await Promise.all(clients.map(client => client.answer()))
    t.strictSame(answers.map(({ status }) => status), [200, 200, 200, 500, 503])
    t.strictSame(answers.slice(0, 3).map(({ body }) => body), ['whole', 'whole', 'whole'])
    t.equal(answers[4]!.headers['retry-after'], '10')
    t.strictSame(await Promise.all(clients.map(client => client.over)), paths.map(() => 'end'))
    await closing
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: paths.length, rejected: 0, aborted: 0, cut: [] } })
  })
}

t.test('a new request is rejected before middleware that is registered after the plugin', async t => {
  const { app, release, report } = await serveHeld(t, { routes: middleware })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  for (const path of ['/answers', '/waits', '/nowhere']) t.match(await fetchOnce(app, get(path)), rejected)
  release()
  await closing
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 3 } })
})

t.test('slow middleware that is registered before the plugin does not prolong the drain', async t => {
  const { app, release, report } = await serveHeld(t, { before: middleware })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/answers')), { status: 200, headers: { connection: 'close' }, body: 'whole' })
  t.match(await fetchOnce(app, get('/waits')), rejected)
  const last = fetchOnce(app, get('/answers'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  release()
  t.equal((await last).body, 'whole')
  const { durationMs } = await closing
  t.ok(durationMs < 2_000, `took ${durationMs} ms`)
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 3, rejected: 1, cut: [] } })
})

t.test('no resource closes while middleware still runs after its client has left', async t => {
  const order: string[] = []
  const { app, report } = await serve(t, {
    options: { resources: { database: { close () { order.push('database') } } } },
    routes: async app => {
      await app.register(middie)
      app.use('/', (_req: unknown, res: ServerResponse) => {
        setTimeout(() => {
          order.push('middleware')
          res.end('too late')
        }, 150)
      })
    }
  })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  abort(client.socket)
  await eventually(() => app.shutdownState.requests().length === 1, () => app.shutdownState)
  await app.shutdown.start()
  t.strictSame(order, ['middleware', 'database'])
  t.match(await report, { outcome: 'clean', exitCode: 0 })
})
