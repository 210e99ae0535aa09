/** The channels of diagnostics_channel during real shutdowns. */
import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ShutdownEvent } from '../../types/index'
import { connect, eventually, get } from '../helpers/client'
import { serve, serveHeld } from '../helpers/serve'

const types: readonly ShutdownEvent['type'][] = ['platform', 'phase', 'waiting', 'request-rejected', 'request-cut', 'task', 'resource', 'hook', 'last-resources', 'problem', 'report']
const timeouts = { requests: 1_200, streams: 100, tasks: 100, resources: 100, total: 5_000 }

function listen (t: Test, type: string, listener: (event: any) => void): void { // any: each test looks into its own shape
  const subscriber = (message: unknown): void => listener(message)
  subscribe(`fastify-shutdown:${type}`, subscriber)
  t.teardown(() => unsubscribe(`fastify-shutdown:${type}`, subscriber))
}

t.test('each type of event has its own channel', async t => {
  const seen = new Map<string, any[]>() // any: as above
  for (const type of types) listen(t, type, event => { seen.set(type, [...seen.get(type) ?? [], event]) })
  const { app, report } = await serveHeld(t, {
    options: { timeouts, resources: { db: { close () { throw new Error('no') } }, log: { last: true, close () {} } } },
    routes: app => { app.addHook('preClose', async () => {}) }
  })
  app.shutdown.on('draining', () => { throw new Error('listener') })
  app.shutdown.waitUntil(new Promise<void>(resolve => { app.shutdown.on('draining', () => resolve()) }), { name: 'mail' })
  const closed = app.shutdown.start('test')
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const late = await connect(app)
  late.send(get('/hold'))
  t.equal((await late.answer()).status, 503)
  await closed
  t.strictSame([...seen.keys()].sort(), [...types].sort())
  const of = (type: string): any => seen.get(type) // any: as above
  t.match(of('platform'), [{ type: 'platform', delay: 0, timeouts }])
  t.strictSame(of('phase').map(({ phase, previous }: { phase: string, previous: string }) => [previous, phase]), [['running', 'draining'], ['draining', 'cleaning'], ['cleaning', 'shutdown']])
  t.match(of('waiting')[0], { phase: 'draining', pending: ['GET /hold'] })
  t.strictSame(of('request-rejected'), [{ type: 'request-rejected', method: 'GET', route: '/hold' }])
  t.match(of('request-cut'), [{ what: 'request', name: 'GET /hold' }])
  t.match(of('task'), [{ result: { name: 'mail', outcome: 'completed' }, error: null }])
  t.match(of('resource'), [{ result: { name: 'db', outcome: 'failed', error: { message: 'no' } } }, { result: { name: 'log', outcome: 'closed' } }])
  t.match(of('last-resources'), [{ names: ['log'] }])
  t.match(of('hook'), [{ result: { hook: 'preClose', name: 'app', outcome: 'closed' } }])
  t.match(of('problem'), [{ message: 'A phase listener threw', error: { message: 'listener' } }])
  t.equal(of('report')[0].report, await report)
})

t.test('every channel is documented', async t => {
  const page = readFileSync(join(__dirname, '../../docs/events.md'), 'utf8')
  t.strictSame(Array.from(page.matchAll(/^\| `fastify-shutdown:([\w-]+)`/gm), ([, type]) => type).sort(), [...types].sort())
})

t.test('a subscriber that throws does not affect the outcome, the other subscribers and the process', async t => {
  const uncaught: unknown[] = []
  const note = (error: unknown): void => { uncaught.push(error) }
  process.on('uncaughtException', note)
  t.teardown(() => process.off('uncaughtException', note))
  let reports = 0
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))
  for (const type of types) {
    listen(t, type, () => { throw new Error('subscriber') })
    listen(t, type, async () => { throw new Error('asynchronous subscriber') })
    listen(t, type, event => { if (event.reason !== undefined) event.reason.kind = 'changed' })
  }
  listen(t, 'report', () => { reports++ })
  const lines: { level: number, msg: string }[] = []
  const { app, report } = await serve(t, {
    fastify: { logger: { stream: { write (line: string) { lines.push(JSON.parse(line)) } } } },
    options: { timeouts, resources: { db: { close () {} } } }
  })
  await app.close()
  t.match(await report, { outcome: 'clean', exitCode: 0, errors: [], reason: { kind: 'close' } })
  t.equal(reports, 1)
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(uncaught, [])
  t.match(lines.find(({ level }) => level >= 40), { level: 40, msg: 'shutdown: a subscriber of diagnostics_channel threw' })
})

t.test('a frequent event is not created while its channel has no subscriber', async t => {
  let created = 0
  const { app, release } = await serveHeld(t, {
    options: {
      timeouts,
      exporters: [{ name: 'counter', start: ({ listen }) => listen(() => { created++ }, type => type === 'request-rejected' && channel('test:on').hasSubscribers) }]
    }
  })
  const closed = app.close()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const reject = async (): Promise<void> => {
    const late = await connect(app)
    late.send(get('/hold'))
    t.equal((await late.answer()).status, 503)
  }
  await reject()
  t.equal(created, 0)
  const subscriber = (): void => {}
  subscribe('test:on', subscriber)
  t.teardown(() => unsubscribe('test:on', subscriber))
  await reject()
  t.equal(created, 1)
  release()
  await closed
})
