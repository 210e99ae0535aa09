/** Values of user code that are not what their types allow: the shutdown ends as it would without them. */
import t, { type Test } from 'tap'
import type { ShutdownReport } from '../../types/index'
import { connect, eventually, get } from '../helpers/client'
import { serve } from '../helpers/serve'

const circular: { self?: object } = {}
circular.self = circular
const revoked = Proxy.revocable({}, {})
revoked.revoke()
const refuse = (): never => { throw new Error('hostile') }

/** Lets each property throw. The stack is read first, because Node creates it from the message at the first access. */
function withGetters (error: Error): Error {
  t.type(error.stack, 'string')
  return Object.defineProperties(error, { message: { get: refuse }, stack: { get: refuse }, code: { get: refuse }, name: { get: refuse } })
}

/** Values that throw when they are read, compared or turned into text. */
const values: Record<string, unknown> = {
  symbol: Symbol('name'),
  'null prototype': Object.create(null),
  circular,
  BigInt: 7n,
  'Proxy that throws at each access': new Proxy({}, { get: refuse, getPrototypeOf: refuse, has: refuse, ownKeys: refuse, getOwnPropertyDescriptor: refuse }),
  'revoked Proxy': revoked.proxy,
  'object whose toString and toJSON throw': { toString: refuse, toJSON: refuse },
  'Error whose properties throw': withGetters(new Error('x')),
  'Error with a Symbol as its message': Object.assign(new Error('x'), { message: Symbol('m'), name: Symbol('n') }),
  'Error of a Proxy': new Proxy(new Error('x'), { get: refuse, getPrototypeOf: refuse }),
  function: () => {},
  null: null,
  undefined
}

const timeouts = { requests: 300, streams: 300, tasks: 300, resources: 300, total: 1_200 }
/** Longest time of a shutdown with these values, in milliseconds. The machine may be busy. */
const longest = 1_000

/** Shuts down an app with a database. @returns whether the database closed, and the report */
async function shutDown (t: Test, setup: Parameters<typeof serve>[1], work: (app: App) => unknown = () => {}, reason?: unknown): Promise<ShutdownReport> {
  let isClosed = false
  const { app } = await serve(t, {
    ...setup,
    // The errors are also written to a log.
    fastify: { logger: { stream: { write () {} } }, disableRequestLogging: true, ...setup?.fastify },
    options: { timeouts, ...setup?.options, resources: { database: { close () { isClosed = true } }, ...setup?.options?.resources } }
  })
  await work(app)
  const began = performance.now()
  const report = await app.shutdown.start(reason as string)
  t.ok(performance.now() - began < longest, `${Math.round(performance.now() - began)} ms`)
  t.ok(isClosed, 'the database has closed')
  t.equal(app.shutdownState.phase, 'shutdown')
  t.doesNotThrow(() => JSON.stringify(app.shutdownState))
  return report
}

type App = Awaited<ReturnType<typeof serve>>['app']

for (const [name, value] of Object.entries(values)) {
  void t.test(`a ${name}`, async t => {
    void t.test('as the reason of start()', async t => {
      t.match(await shutDown(t, {}, () => {}, value), { outcome: 'clean', exitCode: 0, reason: { kind: 'start', detail: String } })
    })

    void t.test('as the name of a task, and as what it throws', async t => {
      const report = await shutDown(t, {}, app => {
        app.shutdown.task(value as string, async () => { await new Promise(resolve => { setTimeout(resolve, 50) }) }).catch(() => {})
        app.shutdown.on('draining', () => { app.shutdown.task('failing', async () => { throw value }).catch(() => {}) })
        app.shutdown.on('cleaning', () => { app.shutdown.task(value as string, async () => {}).catch(() => {}) })
      })
      t.match(report, { outcome: 'failed', exitCode: 1, tasks: [{ name: 'failing', outcome: 'failed' }, { name: String, outcome: 'completed' }] })
      t.match(report.errors, [{ message: /^Task 'failing' failed/ }])
    })

    void t.test('as what close rejects with and throws, and force too', async t => {
      const report = await shutDown(t, {
        options: {
          resources: {
            rejects: { close: () => Promise.reject(value) },
            throws: { close () { throw value } },
            forced: { close: () => new Promise(() => {}), force () { throw value }, timeout: 50 },
            pauses: { pause () { throw value }, close () {} }
          }
        }
      })
      t.match(report, { outcome: 'failed', exitCode: 1 })
      t.match(report.resources.filter(({ outcome }) => outcome !== 'closed').map(({ name, outcome, error }) => [name, outcome, error instanceof Error]).sort(),
        [['forced', 'abandoned', true], ['rejects', 'failed', true], ['throws', 'failed', true]])
      t.ok(report.errors.length >= 3)
      for (const { message } of report.errors) t.type(message, 'string')
    })

    void t.test('as what hooks and listeners throw', async t => {
      const report = await shutDown(t, {
        options: { onReport: () => { throw value }, exporters: [{ name: 'own', start: ({ listen }) => { listen(() => { throw value }); return () => { throw value } } }] },
        routes (app) {
          app.addHook('onClose', async () => { throw value })
          app.addHook('preClose', async () => { throw value })
          app.addHook('onReady', async () => { app.shutdown.on('draining', () => { throw value }) })
        }
      })
      t.match(report, { outcome: 'failed', exitCode: 1 })
    })

    void t.test('as the id of a request', async t => {
      for (const track of ['count', 'detail'] as const) {
        const report = await shutDown(t, {
          fastify: { genReqId: () => value as string },
          options: { track },
          routes: app => { app.get('/', () => new Promise(() => {})) }
        }, async app => {
          const client = await connect(app)
          t.teardown(() => client.socket.destroy())
          client.send(get('/'))
          await eventually(() => app.shutdownState.activeRequests === 1, () => '')
          t.type(app.shutdownState.requests().length, 'number')
        })
        t.match(report, { outcome: 'forced', exitCode: 1, requests: { cut: { length: 1 } } })
        t.doesNotThrow(() => JSON.stringify(report), 'the report is data')
      }
    })

    void t.test('as what a timeout getter throws after the registration has read it', async t => {
      let reads = 0
      let isClosed = false
      const resource = { pause () {}, close () { isClosed = true }, get timeout () { if (++reads > 2) throw value; return 100 } }
      t.match(await shutDown(t, { options: { resources: { resource } } }), { outcome: 'failed', exitCode: 1, resources: { length: 2 } })
      t.ok(isClosed, 'the resource has closed')
    })
  })
}
