/** @fastify/express: a router of Express inside Fastify. Its answers are in flight like those of a handler. */
import fastifyExpress from '@fastify/express'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { connect, eventually, fetchOnce, get, post, type Client } from '../helpers/client'
import { entered, rejected, serve, serveHeld } from '../helpers/serve'

type Res = import('node:http').ServerResponse & { status (code: number): Res, json (body: object): void, send (body: string): void, set (name: string, value: string): Res }
type Middleware = (req: { readonly url: string }, res: Res, next: (error?: Error) => void) => void
interface Router { get (path: string, ...handlers: Middleware[]): void, post (path: string, ...handlers: Middleware[]): void, use (...args: unknown[]): void }
const express = require('express') as { Router (): Router, json (): Middleware }

const router = async (app: FastifyInstance): Promise<void> => {
  await app.register(fastifyExpress)
  const routes = express.Router()
  routes.get('/json', (_req, res) => { setTimeout(() => res.status(201).json({ whole: true }), 150) })
  routes.get('/async', (async (_req: unknown, res: Res) => {
    await new Promise(resolve => { setTimeout(resolve, 150) })
    res.set('Connection', 'keep-alive').send('whole')
  }) as unknown as Middleware)
  routes.get('/parts', (_req, res) => {
    res.write('wh')
    setTimeout(() => res.end('ole'), 150)
  })
  routes.get('/busy', (_req, res) => { setTimeout(() => res.set('Connection', 'keep-alive').status(503).send('busy'), 150) })
  routes.post('/body', express.json(), ((req: { readonly body: object }, res: Res) => { setTimeout(() => res.json(req.body), 150) }) as unknown as Middleware)
  app.use('/express', routes)
  app.get('/fastify', async () => 'fastify')
}

t.test('each answer of Express in flight arrives whole, and its connection ends', async t => {
  const { app, report } = await serve(t, { routes: router })
  const requests = [get('/express/json'), get('/express/async'), get('/express/parts'), get('/express/busy'), post('/express/body', '{"a":1}', { 'Content-Type': 'application/json' })]
  const clients: Client[] = []
  for (const bytes of requests) {
    const client = await connect(app)
    client.send(bytes)
    clients.push(client)
  }
  await eventually(() => app.shutdownState.activeRequests + app.shutdownState.activeStreams === requests.length, () => app.shutdownState)
  const closing = app.shutdown.start()
  const answers = await Promise.all(clients.map(client => client.answer()))
  t.strictSame(answers.map(({ status, body }) => [status, body]), [[201, '{"whole":true}'], [200, 'whole'], [200, 'whole'], [503, 'busy'], [200, '{"a":1}']])
  t.equal(answers[3]!.headers['retry-after'], '10')
  // The head of the answer in parts was sent before.
  t.strictSame(answers.map(({ headers }) => headers.connection), ['close', 'close', 'keep-alive', 'close', 'close'])
  t.strictSame(await Promise.all(clients.map(client => client.over)), requests.map(() => 'end'))
  await closing
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: requests.length, rejected: 0, aborted: 0, cut: [] } })
})

t.test('while draining, requests to Express and to Fastify are rejected', async t => {
  const { app, release, report } = await serveHeld(t, { routes: router })
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  for (const path of ['/express/json', '/express/nowhere', '/fastify']) t.match(await fetchOnce(app, get(path)), rejected)
  release()
  await closing
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 3 } })
})

t.test('a request that Express never answers is cut at its timeout, with the 503', async t => {
  const { app, report } = await serve(t, {
    options: { timeouts: { requests: 200 } },
    routes: async app => {
      await app.register(fastifyExpress)
      app.use('/', () => {})
    }
  })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  t.match(await client.answer(), rejected)
  await closing
  t.match(await report, { outcome: 'forced', requests: { cut: [{ method: 'GET' }] } })
})

t.test('an answer of Express that streams without end is cut as a stream, and nothing is logged as a problem', async t => {
  const problems: string[] = []
  const { app, report } = await serve(t, {
    options: {
      timeouts: { streams: 200 },
      exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'problem') problems.push(event.message) }) }]
    },
    routes: async app => {
      await app.register(fastifyExpress)
      app.use('/', ((_req: unknown, res: Res) => { res.write('begun') }) as never)
    }
  })
  const client = await connect(app)
  client.send(get('/'))
  await client.until('begun')
  t.match(app.shutdownState, { activeRequests: 0, activeStreams: 1 })
  await app.shutdown.start()
  await client.over
  t.match(await report, { outcome: 'forced', streams: { cut: 1 }, requests: { cut: [] } })
  t.strictSame(problems, [])
})
