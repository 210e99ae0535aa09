import { AsyncResource } from 'node:async_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import gracefulShutdown from '../../lib/index'
import { backstop } from '../../lib/process/backstop'
import { joinProcess } from '../../lib/process/signals'
import type { ShutdownOptions } from '../../types/index'

// In a test runner, signals are off by default.
delete process.env.TAP

async function started (options: ShutdownOptions): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(gracefulShutdown, options)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

const listeners = (): Record<string, number> => Object.fromEntries(process.eventNames().map(name => [String(name), process.listenerCount(name)]).sort())

/** Node 20 and 22 copy each enabled AsyncLocalStorage to each new resource. @returns how many they copy */
const storages = (): number => Object.getOwnPropertySymbols(new AsyncResource('test')).filter(({ description }) => description === 'kResourceStore').length
const storagesBefore = storages()

// Modules that are loaded at the first use may add process listeners of their own.
t.before(async () => { await (await started({ signals: false })).close() })

t.test('signals: false adds no process listener', async t => {
  const before = listeners()
  const app = await started({ signals: false })
  t.strictSame(listeners(), before)
  await app.close()
  t.strictSame(listeners(), before)
})

t.test('only the chosen events get a listener', async t => {
  const before = listeners()
  const more = (): string[] => Object.entries(listeners()).filter(([name, count]) => count !== (before[name] ?? 0)).map(([name, count]) => `${name} ${count - (before[name] ?? 0)}`)
  const choices: [ShutdownOptions, string[]][] = [
    [{}, ['SIGINT 1', 'SIGTERM 1', 'uncaughtException 1', 'unhandledRejection 1']],
    [{ uncaughtErrors: false }, ['SIGINT 1', 'SIGTERM 1']],
    [{ signals: ['SIGHUP'] }, ['SIGHUP 1', 'uncaughtException 1', 'unhandledRejection 1']],
    [{ signals: false, uncaughtErrors: true }, ['uncaughtException 1', 'unhandledRejection 1']]
  ]
  for (const [options, expected] of choices) {
    const app = await started(options)
    t.strictSame(more(), expected)
    await app.close()
    t.strictSame(more(), [])
  }
})

t.test('twelve instances share their listeners, and the last one removes them', async t => {
  const before = listeners()
  const apps = await Promise.all(Array.from({ length: 12 }, () => started({})))
  t.equal(process.listenerCount('SIGTERM'), (before.SIGTERM ?? 0) + 1)
  const last = apps.pop()!
  await Promise.all(apps.map(app => app.close()))
  t.equal(process.listenerCount('SIGTERM'), (before.SIGTERM ?? 0) + 1)
  await last.close()
  t.strictSame(listeners(), before)
})

t.test('an instance that has closed is garbage, also while another one runs', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const running = await started({ signals: false })
  const closed: Array<WeakRef<FastifyInstance>> = []
  for (const stop of [(app: FastifyInstance) => app.close(), (app: FastifyInstance) => app.shutdown.start()]) {
    for (let n = 0; n < 5; n++) closed.push(await startAndStop(stop))
  }
  // Timers and caches may hold the last one for a moment.
  for (let n = 0; n < 100 && reachable() > 1; n++) {
    await new Promise(resolve => { setTimeout(resolve, 20) })
    collect()
  }
  t.ok(reachable() <= 1, `${reachable()} of ${closed.length} instances are reachable`)
  await running.close()

  function reachable (): number {
    return closed.filter(reference => reference.deref() !== undefined).length
  }

  async function startAndStop (stop: (app: FastifyInstance) => Promise<unknown>): Promise<WeakRef<FastifyInstance>> {
    const app = await started({ exit: false })
    await stop(app)
    return new WeakRef(app)
  }
})

t.test('a signal has a listener at every moment while instances come and go', async t => {
  const counts: number[] = []
  const onChange = (event: string | symbol): void => {
    if (event === 'SIGHUP' || event === 'SIGUSR2') counts.push(process.listenerCount('SIGUSR2'))
  }
  const first = await started({ signals: ['SIGUSR2'] })
  const least = process.listenerCount('SIGUSR2')
  for (const event of ['newListener', 'removeListener']) (process as NodeJS.EventEmitter).on(event, onChange)
  const second = await started({ signals: ['SIGUSR2', 'SIGHUP'] })
  await second.close()
  for (const event of ['newListener', 'removeListener']) (process as NodeJS.EventEmitter).off(event, onChange)
  t.ok(counts.length >= 2, 'SIGHUP was added and removed')
  t.ok(Math.min(...counts) >= least, 'without a listener the system ends the process')
  await first.close()
})

t.test('20 apps that open and close leave no listener and no warning behind', async t => {
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', onWarning)
  t.teardown(() => process.removeListener('warning', onWarning))
  const before = listeners()
  for (let round = 0; round < 20; round++) {
    const app = await started({ exit: false })
    if (round % 2 === 0) await app.close()
    else await app.shutdown.start()
  }
  t.strictSame(listeners(), before)
  t.strictSame(warnings, [])
})

t.test('apps that have closed leave no AsyncLocalStorage on the asynchronous work of the process', async t => {
  for (let round = 0; round < 3; round++) await (await started({ exit: false })).close()
  t.equal(storages(), storagesBefore)
})

t.test('a signal with exit: false closes the server and leaves no listener behind', async t => {
  const before = listeners()
  for (let round = 0; round < 3; round++) {
    const app = await started({ signals: ['SIGUSR2'], exit: false })
    process.emit('SIGUSR2', 'SIGUSR2')
    t.strictSame((await app.shutdown.start()).reason, { kind: 'signal', detail: 'SIGUSR2' })
    t.strictSame(listeners(), before)
  }
})

t.test('the process exits with 1 after the budget and the backstop, if a shutdown never ends', async t => {
  const exit = t.capture(process, 'exit', (() => {}) as () => never)
  // The backstop does not keep the process alive, as a stuck shutdown does.
  const alive = setInterval(() => {}, 1_000)
  t.teardown(() => clearInterval(alive))
  const began = performance.now()
  const message = await new Promise<string>(resolve => {
    const { leave } = joinProcess({
      signals: ['SIGUSR2'],
      uncaughtErrors: false,
      exit: true,
      budget: 100,
      start: () => new Promise(() => {}),
      onUncaughtError () {},
      reportForcedExit: resolve,
      flush: async () => {}
    })
    t.teardown(() => leave(null, 0))
    process.emit('SIGUSR2', 'SIGUSR2')
  })
  t.equal(message, `not over after ${100 + backstop} ms, the process exits now`)
  t.ok(performance.now() - began > 100 + backstop - 10)
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(exit.args()[0], [1])
})

t.test('close() does not end the process, even if a resource fails', async t => {
  const exit = t.intercept(process, 'exit', { value: () => {} })
  const app = await started({ resources: { db: { close () { throw new Error('no connection') } } } })
  await t.rejects(app.close(), { code: 'FST_ERR_SHUTDOWN_TEARDOWN' })
  t.equal((await app.shutdown.start()).exitCode, 1)
  t.strictSame(exit(), [])
})

t.test('a listen() at the same time as close() rejects, and leaves no listening server', async t => {
  const late = { code: 'FST_ERR_SHUTDOWN_LATE' }
  await t.test('during the boot', async t => {
    const app = Fastify()
    await app.register(gracefulShutdown, { signals: false })
    const listening = app.listen({ port: 0 })
    const [listened] = await Promise.allSettled([listening, app.close()])
    if (listened.status === 'rejected') t.match(listened.reason, late)
    t.notOk(app.server.listening)
  })
  await t.test('after the boot', async t => {
    const app = Fastify()
    await app.register(gracefulShutdown, { signals: false })
    await app.ready()
    const [listened] = await Promise.allSettled([app.listen({ port: 0 }), app.close()])
    if (listened.status === 'rejected') t.match(listened.reason, late)
    t.notOk(app.server.listening)
  })
  await t.test('after the close', async t => {
    const app = Fastify()
    await app.register(gracefulShutdown, { signals: false })
    await app.close()
    await t.rejects(app.listen({ port: 0 }), late)
    t.notOk(app.server.listening)
  })
})
