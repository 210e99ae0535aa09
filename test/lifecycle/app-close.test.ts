/**
 * The end of Fastify's close: what fails or hangs in it is in the report, and the resources close and the report is
 * published in any case.
 */
import { createServer } from 'node:http'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { ShutdownReport } from '../../types/index'
import gracefulShutdown from '../../lib/index'
import { turn } from '../../lib/util/time'
import { Fastify } from '../helpers/fastify'
import { serve } from '../helpers/serve'

const timeouts = { total: 1_000, resources: 300 }
const never = async (): Promise<never> => await new Promise(() => {})
const messages = ({ errors }: ShutdownReport): string[] => errors.map(({ message }) => message)

/** Hooks that fail. Each is added after the plugin, except if `early`. */
const failures: Record<string, { readonly early?: true, readonly add: (app: FastifyInstance) => void, readonly error: string }> = {
  'an async preClose hook that rejects': {
    add: app => { app.addHook('preClose', async () => { throw new Error('boom') }) },
    error: "The preClose hook of 'app' failed: boom"
  },
  'a preClose hook that calls back with an error': {
    add: app => { app.addHook('preClose', done => { (done as (error: Error) => void)(new Error('boom')) }) },
    error: "The preClose hook of 'app' failed: boom"
  },
  'a preClose hook that throws': {
    add: app => { app.addHook('preClose', (_done): void => { throw new Error('boom') }) },
    error: "The preClose hook of 'app' failed: boom"
  },
  'a preClose hook that never settles': {
    add: app => { app.addHook('preClose', never) },
    error: "The preClose hook of 'app' was abandoned: The preClose hook of 'app' did not finish in 300 ms"
  },
  'a preClose hook that never calls back': {
    add: app => { app.addHook('preClose', _done => {}) },
    error: "The preClose hook of 'app' was abandoned: The preClose hook of 'app' did not finish in 300 ms"
  },
  'an onClose hook of a child': {
    add: app => { void app.register(async function accounts (child) { child.addHook('onClose', async () => { throw new Error('boom') }) }) },
    error: "The onClose hook of 'accounts' failed: boom"
  },
  'an onClose hook that was added before the plugin, and rejects': {
    early: true,
    add: app => { app.addHook('onClose', async () => { throw new Error('boom') }) },
    error: "'app.close()' failed: boom"
  },
  'an onClose hook that was added before the plugin, and hangs': {
    early: true,
    add: app => { app.addHook('onClose', never) },
    error: "The app did not close in time: 'app.close()' did not finish in"
  }
}

for (const [name, { early = false, add, error }] of Object.entries(failures)) {
  void t.test(`${name} makes the outcome failed, and is named in the report`, async t => {
    const closed: string[] = []
    const { app } = await serve(t, {
      options: { timeouts, resources: { database: { close: () => { closed.push('database') } } } },
      ...early ? { before: add } : { routes: add }
    })
    const report = await app.shutdown.start()
    t.match(report, { outcome: 'failed', exitCode: 1, resources: [{ name: 'database', outcome: 'closed' }] })
    t.equal(messages(report).length, 1, messages(report).join('; '))
    t.match(messages(report)[0], error)
    t.strictSame(closed, ['database'])
    t.ok(report.durationMs < timeouts.total + 200, `${report.durationMs} ms`)
  })
}

void t.test('a boot that never ends', async t => {
  await t.test('does not keep start() pending, and the resources close', async t => {
    const closed: string[] = []
    const app = Fastify({ pluginTimeout: 0 })
    await app.register(gracefulShutdown, {
      signals: false, delay: 0, timeouts: { total: 400, resources: 200 }, resources: { database: { close: () => { closed.push('database') } } }
    })
    void app.register(async () => await never())
    const began = performance.now()
    const report = await app.shutdown.start()
    t.match(report, { outcome: 'failed', exitCode: 1, resources: [{ outcome: 'closed' }] })
    t.match(messages(report)[0], 'The app did not boot in time')
    t.strictSame(closed, ['database'])
    t.ok(performance.now() - began < 400 + 2_000, `${performance.now() - began} ms`)
  })

  await t.test('a resource that is added during the shutdown closes', async t => {
    const closed: string[] = []
    const app = Fastify({ pluginTimeout: 0 })
    const late = { close: () => { closed.push('late') } }
    await app.register(gracefulShutdown, {
      signals: false,
      delay: 0,
      timeouts: { total: 400, resources: 200 },
      resources: { database: { close: () => { app.shutdown.resource('late', late) } } }
    })
    void app.register(async () => await never())
    const { resources } = await app.shutdown.start()
    t.match(resources, [{ name: 'database', outcome: 'closed' }, { name: 'late', outcome: 'closed' }])
    t.strictSame(closed, ['late'])
  })
})

void t.test('a custom server', async t => {
  const closes: Record<string, () => void> = {
    'never calls back': () => {},
    'throws at a later time': () => {}
  }
  for (const [name, close] of Object.entries(closes)) {
    await t.test(`whose close() ${name} does not keep the resources open`, async t => {
      const closed: number[] = []
      let began = 0
      const { app } = await serve(t, {
        fastify: {
          serverFactory: (handler: Parameters<typeof createServer>[1]) => {
            const server = createServer(handler)
            const original = server.close.bind(server)
            t.teardown(() => original())
            return Object.assign(server, { close })
          }
        },
        options: { timeouts, resources: { database: { close: () => { closed.push(performance.now() - began) } } } }
      })
      began = performance.now()
      const report = await app.shutdown.start()
      t.match(report, { outcome: 'failed', resources: [{ outcome: 'closed' }] })
      t.match(messages(report)[0], /The app did not close in time/)
      t.ok(report.durationMs < timeouts.total + 500, `${report.durationMs} ms`)
      t.ok(closed[0]! < timeouts.total - timeouts.resources + 200, `the database closed after ${closed[0]} ms`)
    })
  }
})

void t.test('app.close() inside a resource or a hook of the app resolves at once, because it would wait for itself', async t => {
  const calls: string[] = []
  const { app } = await serve(t, {
    options: {
      timeouts,
      resources: {
        nest: {
          async close () {
            await new Promise(resolve => { setTimeout(resolve, 20) })
            await app.close()
            calls.push('resource')
          }
        }
      }
    },
    routes: app => {
      app.addHook('onClose', async () => {
        await app.close()
        calls.push('onClose')
      })
      app.addHook('preClose', async () => {
        await app.close()
        calls.push('preClose')
      })
    }
  })
  t.match(await app.shutdown.start(), { outcome: 'clean', exitCode: 0 })
  t.strictSame(calls, ['preClose', 'onClose', 'resource'])
})

void t.test('app.close() resolves at once inside a resource that is added while the others close', async t => {
  let added = (): void => {}
  const { app } = await serve(t, {
    options: {
      timeouts,
      resources: {
        first: { close: async () => await new Promise(resolve => { added = resolve }) }
      }
    }
  })
  const report = app.shutdown.start()
  while (app.shutdownState.phase !== 'cleaning') await turn()
  app.shutdown.resource('nest', { close: () => app.close() })
  added()
  t.match(await report, { outcome: 'clean', resources: [{ name: 'first', outcome: 'closed' }, { name: 'nest', outcome: 'closed' }] })
})

void t.test('app.close() inside a pause or onReport resolves at once, because the shutdown waits for both', async t => {
  const calls: string[] = []
  const { app } = await serve(t, {
    options: {
      timeouts,
      resources: {
        worker: {
          async pause () {
            await app.close()
            calls.push('pause')
          }
        }
      },
      async onReport () {
        await app.close()
        calls.push('onReport')
      }
    }
  })
  t.match(await app.shutdown.start(), { outcome: 'clean', exitCode: 0 })
  t.strictSame(calls, ['pause', 'onReport'])
})

void t.test('app.close() of another app inside a resource waits for that app', async t => {
  const other = await serve(t, { options: { resources: { slow: { close: async () => { await new Promise(resolve => { setTimeout(resolve, 100) }) } } } } })
  let phase = ''
  const { app } = await serve(t, {
    options: {
      resources: {
        other: {
          async close () {
            await other.app.close()
            phase = other.app.shutdownState.phase
          }
        }
      }
    }
  })
  t.match(await app.shutdown.start(), { outcome: 'clean' })
  t.equal(phase, 'shutdown')
})

void t.test('app.close() settles after the report, in each of its forms', async t => {
  const forms: Record<string, (app: FastifyInstance) => Promise<unknown>> = {
    promise: async app => await app.close(),
    callback: app => new Promise<void>(resolve => { app.close(resolve) }),
    'callback with three parameters': app => new Promise(resolve => {
      (app.close as (callback: (error: unknown, instance: unknown, done: () => void) => void) => void)((_error, instance, done) => {
        done()
        resolve(instance)
      })
    }),
    'Symbol.asyncDispose': async app => { await app[Symbol.asyncDispose]() }
  }
  for (const [name, close] of Object.entries(forms)) {
    let reported = false
    const { app } = await serve(t, {
      options: {
        async onReport () {
          await new Promise(resolve => { setTimeout(resolve, 20) })
          reported = true
        }
      }
    })
    await close(app)
    t.ok(reported, name)
    t.equal(app.shutdownState.phase, 'shutdown', name)
    await app.close()
  }
  const { app } = await serve(t)
  t.throws(() => (app.close as (callback: unknown) => void)(1), { code: 'AVV_ERR_CALLBACK_NOT_FN' })
})

void t.test('hooks that hang leave the resources their reserve', async t => {
  const { app } = await serve(t, {
    options: { timeouts: { total: 1_200, resources: 500 }, resources: { database: { close: async () => { await new Promise(resolve => { setTimeout(resolve, 200) }) } } } },
    routes: app => { for (let i = 0; i < 3; i++) app.addHook('onClose', never) }
  })
  const report = await app.shutdown.start()
  t.match(report.resources, [{ name: 'database', outcome: 'closed' }])
  t.strictSame(report.hooks.map(({ outcome }) => outcome), ['abandoned', 'abandoned', 'abandoned'])
  t.ok(report.durationMs < 1_400, `${report.durationMs} ms`)
})

void t.test('the critical path contains hooks', async t => {
  const pause = async (): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, 50) }) }
  const { app } = await serve(t, {
    options: { resources: { worker: { dependsOn: ['database'], close: pause }, database: { close: pause } } },
    routes: app => {
      app.addHook('onClose', pause)
      app.addHook('preClose', pause)
    }
  })
  t.strictSame((await app.shutdown.start()).criticalPath, ['preClose hook of app', 'onClose hook of app', 'worker', 'database'])
})
