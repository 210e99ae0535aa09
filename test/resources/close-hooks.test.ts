/**
 * The onClose hooks of the app: each is isolated, has a timeout and a name. And the clients of @fastify/postgres and
 * @fastify/redis, which close by dependency, but never before a hook that stock Fastify would have run earlier.
 */
import { once } from 'node:events'
import fastifyPostgres from '@fastify/postgres'
import fastifyRedis from '@fastify/redis'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp = require('fastify-plugin')
import Redis from 'ioredis'
import t, { type Test } from 'tap'
import type { Exporter, ShutdownOptions, ShutdownReport } from '../../types/index'
import { findServer, hasPostgres, hasRedis, startPostgres, startRedis, unless, type OwnServer, type Server } from '../helpers/services'
import gracefulShutdown = require('../../lib/index')
import { Fastify } from '../helpers/fastify'
import { build, serve } from '../helpers/serve'

const silent = { timeouts: { resources: 200 } } satisfies ShutdownOptions

/** What `close()` rejected with. */
async function failure (app: FastifyInstance): Promise<AggregateError & { code?: string }> {
  return await app.close().then(() => { throw new Error('It closed') }, (error: AggregateError) => error)
}

t.test('hooks run where stock Fastify runs them: one after the other, the last registered first', async t => {
  const calls: string[] = []
  const hook = (name: string): () => Promise<void> => async () => {
    calls.push(`${name} begins`)
    await new Promise(resolve => { setImmediate(resolve) })
    calls.push(`${name} ends`)
  }
  const { app, report } = await serve(t, {
    before: app => { app.addHook('onClose', hook('before ours')) },
    routes: app => {
      app.addHook('onClose', hook('first'))
      void app.register(async child => {
        child.addHook('onClose', hook('child'))
        void child.register(async grandchild => { grandchild.addHook('onClose', hook('grandchild')) })
      })
      void app.register(fp(async app => { app.addHook('onClose', hook('plugin')) }, { name: 'a-plugin' }))
    }
  })
  await app.close()
  t.strictSame(calls, ['plugin', 'grandchild', 'child', 'first', 'before ours'].flatMap(name => [`${name} begins`, `${name} ends`]))
  const { hooks } = await report
  t.match(hooks.map(({ name }) => name), ['a-plugin', String, String, 'app'])
  t.ok(hooks.every(({ outcome, error }) => outcome === 'closed' && error === null))
})

t.test('each hook is reported under the name of its plugin, and a hook of the app itself as app', async t => {
  const hook = async (): Promise<void> => {}
  const { app, report } = await serve(t, {
    before: app => { app.addHook('onClose', hook) },
    routes: async app => {
      app.addHook('onClose', hook)
      await app.register(async function accounts (child) { child.addHook('onClose', hook) })
      await app.register(async child => { child.addHook('onClose', hook) })
      await app.register(fp(async app => { app.addHook('onClose', hook) }, { name: 'named' }))
    }
  })
  await app.close()
  // Fastify has no name for an arrow function, and gives the first lines of its code.
  t.match((await report).hooks.map(({ name }) => name), ['named', /^async \(?child/, 'accounts', 'app'], 'a hook before the plugin is not seen')
})

t.test('a hook that the app adds after the plugin is loaded is reported as app, and earlier hooks are not reported', async t => {
  const hook = async (): Promise<void> => {}
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onClose', hook)
  const reported = new Promise<ShutdownReport>(resolve => { void app.register(gracefulShutdown, { signals: false, delay: 0, onReport: resolve }) })
  app.addHook('onClose', hook)
  app.after(() => { app.addHook('onClose', hook) })
  await app.ready()
  await app.close()
  t.strictSame((await reported).hooks.map(({ name }) => name), ['app'], 'only the hook in after() was added after the plugin was loaded')
})

t.test('a hook is called with its own instance', async t => {
  const seen: boolean[] = []
  const { app } = await build(t, {
    routes: app => {
      void app.register(async child => {
        child.decorate('mine', true)
        child.addHook('onClose', function (this: FastifyInstance, instance, done) {
          seen.push(this === child, instance === child, 'mine' in instance)
          done()
        })
        child.addHook('onClose', async instance => { seen.push(instance === child) })
      })
    }
  })
  await app.close()
  t.strictSame(seen, [true, true, true, true])
})

t.test('if a hook fails or hangs, the others run, the resources close, and each failure has a name', async t => {
  const calls: string[] = []
  const plugin = (name: string, hook: unknown): FastifyPluginAsync => fp((async (app: FastifyInstance) => { app.addHook('onClose', hook as () => Promise<void>) }) as FastifyPluginAsync, { name })
  const { app, report } = await serve(t, {
    options: { ...silent, resources: { cache: { close: () => { calls.push('cache') } } } },
    routes: async app => {
      app.addHook('onClose', async () => { calls.push('the first one, so the last to run') })
      await app.register(plugin('rejects', async () => { throw new Error('rejected') }))
      await app.register(plugin('throws', () => { throw new Error('thrown') }))
      await app.register(plugin('throws-with-callback', (_instance: unknown, _done: unknown) => { throw new Error('thrown, too') }))
      await app.register(plugin('throws-undefined', async () => { throw undefined })) // eslint-disable-line no-throw-literal -- on purpose
      await app.register(plugin('throws-a-string', async () => { throw 'a word' })) // eslint-disable-line no-throw-literal -- on purpose
      await app.register(plugin('hangs', async () => new Promise(() => {})))
      await app.register(plugin('never-calls-back', (_instance: unknown, _done: unknown) => {}))
      await app.register(plugin('calls-back-with-an-error', (_instance: unknown, done: (error: Error) => void) => { done(new Error('called back')) }))
      await app.register(plugin('calls-back-twice', (_instance: unknown, done: () => void) => {
        done()
        done()
      }))
      await app.register(plugin('calls-back', (_instance: unknown, done: () => void) => { setImmediate(done) }))
      await app.register(plugin('disposes', { [Symbol.dispose]: () => { calls.push('disposed') } }))
      await app.register(plugin('disposes-later', { [Symbol.asyncDispose]: async () => { calls.push('disposed later') } }))
      await app.register(plugin('cannot-dispose', { [Symbol.asyncDispose]: async () => { throw new Error('not disposed') } }))
    }
  })
  const error = await failure(app)
  t.strictSame(calls, ['disposed later', 'disposed', 'the first one, so the last to run', 'cache'])
  t.match(error, { code: 'FST_ERR_SHUTDOWN_TEARDOWN', name: 'ShutdownTeardownError' })
  t.ok(error instanceof AggregateError)
  const expected: [string, string, RegExp][] = [
    ['cannot-dispose', 'failed', /not disposed/],
    ['calls-back-with-an-error', 'failed', /called back/],
    ['never-calls-back', 'abandoned', /200 ms/],
    ['hangs', 'abandoned', /200 ms/],
    ['throws-a-string', 'failed', /a word/],
    ['throws-undefined', 'failed', /undefined/],
    ['throws-with-callback', 'failed', /thrown, too/],
    ['throws', 'failed', /thrown/],
    ['rejects', 'failed', /rejected/]
  ]
  t.equal(error.errors.length, expected.length)
  for (const [at, [name, outcome, message]] of expected.entries()) {
    t.match(error.errors[at], { message, resource: name }, name)
    t.match((await report).hooks.find(hook => hook.name === name), { outcome, error: { message } }, name)
  }
  for (const name of ['calls-back', 'calls-back-twice', 'disposes', 'disposes-later']) t.match((await report).hooks.find(hook => hook.name === name), { outcome: 'closed', error: null }, name)
  t.match(await report, { outcome: 'failed', exitCode: 1, resources: [{ name: 'cache', outcome: 'closed' }] })
})

t.test('every caller of close() gets the failure, and start() resolves to the report', async t => {
  const { app } = await serve(t, { routes: app => { app.addHook('onClose', async () => { throw new Error('no') }) } })
  const report = app.shutdown.start()
  const failures = await Promise.all([failure(app), failure(app)])
  t.match(failures, [{ code: 'FST_ERR_SHUTDOWN_TEARDOWN' }, { code: 'FST_ERR_SHUTDOWN_TEARDOWN' }])
  t.match(await report, { outcome: 'failed', exitCode: 1, hooks: [{ outcome: 'failed', error: { message: 'no' } }] })
})

t.test('a value that is not a hook gets Fastify\'s own error', async t => {
  const { app } = await build(t)
  const stock = Fastify()
  t.teardown(() => stock.close())
  for (const hook of ['close', null, {}, async (_one: unknown, _two: unknown, _three: unknown) => {}] as never[]) {
    const codeOf = (instance: FastifyInstance): unknown => {
      try {
        instance.addHook('onClose', hook)
        return 'accepted'
      } catch (error) {
        return (error as { code?: string }).code
      }
    }
    const code = codeOf(stock)
    t.equal(codeOf(app), code, `${String(hook)}: ${String(code)}`)
  }
})

t.test('no hook runs before the last response is sent', async t => {
  let inFlight = -1
  const { app } = await serve(t, {
    routes: app => {
      app.get('/', async () => new Promise(resolve => { setTimeout(resolve, 100, 'hello') }))
      app.addHook('onClose', async () => { inFlight = app.shutdownState.activeRequests })
    }
  })
  const answer = fetch(`http://127.0.0.1:${(app.server.address() as { port: number }).port}/`)
  await new Promise(resolve => { app.server.once('request', resolve) })
  await app.close()
  t.equal(inFlight, 0)
  t.equal(await (await answer).text(), 'hello')
})

t.test('a resource that a plugin adds closes between the hooks before and after it', async t => {
  const calls: string[] = []
  const { app } = await serve(t, {
    routes: async app => {
      app.addHook('onClose', async () => { calls.push('a hook before it') })
      await app.register(fp(async app => { app.shutdown.resource('cache', { close: async () => { calls.push('cache') } }) }))
      app.addHook('onClose', async () => { calls.push('a hook after it') })
    }
  })
  await app.close()
  t.strictSame(calls, ['a hook after it', 'cache', 'a hook before it'])
})

t.test('a dependant without a position closes right before its dependency, and a dependant with a later position delays it', async t => {
  const calls: string[] = []
  const close = (name: string): { close: () => Promise<void> } => ({ close: async () => { calls.push(name) } })
  const { app } = await serve(t, {
    options: { resources: { worker: { dependsOn: ['database'], ...close('worker') } } },
    routes: app => {
      app.shutdown.resource('late', { dependsOn: ['database'], ...close('late') })
      app.addHook('onClose', async () => { calls.push('hook') })
      app.shutdown.resource('database', close('database'))
    }
  })
  await app.close()
  t.strictSame(calls, ['worker', 'hook', 'late', 'database'])
})

t.test('with a real PostgreSQL and a real Redis', async t => {
  const postgres = await reach(t, 'postgres', hasPostgres, startPostgres)
  const redis = await reach(t, 'redis', hasRedis, startRedis)
  const there = { skip: unless('postgres', postgres !== undefined).skip === false ? unless('redis', redis !== undefined).skip : unless('postgres', postgres !== undefined).skip }
  const connectionString = `postgres://${postgres?.user ?? 'postgres'}:${postgres?.password ?? ''}@${postgres?.host}:${postgres?.port}/${process.env['POSTGRES_URL'] === undefined ? 'postgres' : new URL(process.env['POSTGRES_URL']).pathname.slice(1)}`
  const url = `redis://${redis?.host}:${redis?.port}`

  /** Registers both plugins in the given order, each followed by a hook that uses every client so far. */
  async function both (t: Test, order: readonly ('postgres' | 'redis')[], resources: NonNullable<ShutdownOptions['resources']>): Promise<{ report: ShutdownReport, ended: string[] }> {
    const ended: string[] = []
    const use = async (app: FastifyInstance, who: string, clients: readonly ('postgres' | 'redis')[]): Promise<void> => {
      if (clients.includes('postgres')) await app.pg.query('SELECT 1')
      if (clients.includes('redis')) await app.redis.ping()
      ended.push(who)
    }
    const listener: Exporter = { name: 'order', start: ({ listen }) => listen(event => { if (event.type === 'resource') ended.push(event.result.name) }) }
    const { app, report } = await serve(t, {
      options: { resources, exporters: [listener] },
      routes: async app => {
        for (const [at, name] of order.entries()) {
          if (name === 'postgres') await app.register(fastifyPostgres, { connectionString })
          else await app.register(fastifyRedis, { url })
          app.addHook('onClose', async () => use(app, `hook ${at}`, order.slice(0, at + 1)))
        }
      }
    })
    await app.pg.query('SELECT 1')
    await app.redis.ping()
    await app.close()
    t.ok(app.pg.pool.ended)
    if (app.redis.status !== 'end') await once(app.redis, 'end')
    return { report: await report, ended }
  }

  t.test('the pool of @fastify/postgres and the client of @fastify/redis close by dependency, in any order of registration', there, async t => {
    for (const order of [['postgres', 'redis'], ['redis', 'postgres']] as const) {
      for (const [above, below] of [['postgres', 'redis'], ['redis', 'postgres']] as const) {
        const { report, ended } = await both(t, order, { [above]: { dependsOn: [below] } })
        const label = `${order.join(', ')}; ${above} needs ${below}`
        t.ok(ended.indexOf(above) < ended.indexOf(below), `${label}: ${ended.join(', ')}`)
        // The hook after the second plugin uses both, the one in between what the first one brought.
        t.ok(ended.indexOf('hook 1') < ended.indexOf(above), label)
        t.ok(ended.indexOf('hook 0') < ended.indexOf(order[0]), label)
        t.match(report, { outcome: 'clean' }, label)
        t.strictSame(report.resources.map(({ name, outcome }) => [name, outcome]).sort(), [['postgres', 'closed'], ['redis', 'closed']], label)
        t.strictSame(report.resources.find(({ name }) => name === below)?.waitedFor, [above], label)
        t.ok(report.hooks.every(({ outcome }) => outcome === 'closed'), label)
      }
    }
  })

  t.test('without dependsOn they close where stock Fastify closes them', there, async t => {
    for (const order of [['postgres', 'redis'], ['redis', 'postgres']] as const) {
      const { report, ended } = await both(t, order, {})
      t.strictSame(ended, ['hook 1', order[1], 'hook 0', order[0]])
      t.match(report, { outcome: 'clean' })
    }
  })

  t.test('a worker that uses both closes before them', there, async t => {
    const status: unknown[] = []
    const { app, report } = await serve(t, {
      options: {
        resources: {
          worker: {
            dependsOn: ['postgres', 'redis'],
            close: async () => { status.push((await app.pg.query('SELECT 1 AS one')).rows[0].one, await app.redis.ping()) }
          }
        }
      },
      routes: async app => {
        await app.register(fastifyPostgres, { connectionString })
        await app.register(fastifyRedis, { url })
      }
    })
    await app.close()
    t.strictSame(status, [1, 'PONG'])
    t.match(await report, { outcome: 'clean', criticalPath: { 0: 'worker' } })
  })

  t.test('named pools and namespaces are adopted under their names', there, async t => {
    const { app, report } = await serve(t, {
      options: { resources: { 'redis:cache': { dependsOn: ['postgres:main'] } } },
      routes: async app => {
        await app.register(fastifyPostgres, { connectionString, name: 'main' })
        await app.register(fastifyPostgres, { connectionString, name: 'archive' })
        await app.register(fastifyRedis, { url, namespace: 'cache' })
        await app.register(fastifyRedis, { url, namespace: 'queue' })
      }
    })
    await app.close()
    t.strictSame((await report).resources.map(({ name, outcome }) => `${name} ${outcome}`).sort(), ['postgres:archive closed', 'postgres:main closed', 'redis:cache closed', 'redis:queue closed'])
  })

  t.test('the clients of two contexts are both closed', there, async t => {
    const clients: Redis[] = []
    const { app, report } = await serve(t, {
      routes: app => {
        for (const prefix of ['/one', '/two']) {
          void app.register(async child => {
            await child.register(fastifyRedis, { url })
            clients.push(child.redis as unknown as Redis)
          }, { prefix })
        }
      }
    })
    await app.close()
    t.strictSame(clients.map(({ status }) => status), ['end', 'end'])
    t.equal((await report).resources.length, 2)
  })

  t.test('a client that was created elsewhere stays open, unless closeClient is set', there, async t => {
    for (const closeClient of [false, true]) {
      const client = new Redis(url)
      t.teardown(() => client.disconnect())
      const { app, report } = await serve(t, { routes: async app => { await app.register(fastifyRedis, { client: client as never, closeClient }) } })
      await app.close()
      t.equal(client.status, closeClient ? 'end' : 'ready')
      if (!closeClient) t.equal(await client.ping(), 'PONG')
      t.match(await report, { outcome: 'clean' })
    }
  })

  t.test('a client that the app has closed itself is not a failure', there, async t => {
    const { app, report } = await serve(t, {
      routes: async app => {
        await app.register(fastifyPostgres, { connectionString })
        await app.register(fastifyRedis, { url })
        app.addHook('onClose', async () => { await Promise.all([app.pg.pool.end(), app.redis.quit()]) })
      }
    })
    await app.close()
    t.match(await report, { outcome: 'clean' })
    const early = await serve(t, {
      routes: async app => {
        await app.register(fastifyPostgres, { connectionString })
        await app.register(fastifyRedis, { url })
      }
    })
    await Promise.all([early.app.pg.pool.end(), early.app.redis.quit()])
    await early.app.close()
    t.match(await early.report, { outcome: 'clean' })
  })

  t.test('a query that runs when the shutdown begins finishes before its pool ends', there, async t => {
    const { app } = await serve(t, {
      routes: async app => {
        await app.register(fastifyPostgres, { connectionString })
        app.get('/', async () => (await app.pg.query('SELECT pg_sleep(0.2), 7 AS seven')).rows[0].seven)
      }
    })
    const answer = app.inject('/')
    await new Promise(resolve => { app.pg.pool.once('acquire', resolve) })
    await app.close()
    t.equal((await answer).body, '7')
  })

  t.test('a declared name for which no plugin created a client is refused when the app becomes ready', async t => {
    const { app } = await build(t, { options: { resources: { postgres: { timeout: 100 } } } })
    await t.rejects(async () => app.ready(), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /'postgres'/ })
  })
})

/** Finds the server that runs already, or starts one. */
async function reach (t: Test, name: 'postgres' | 'redis', canStart: () => boolean, start: () => Promise<OwnServer>): Promise<Server | undefined> {
  const found = await findServer(name)
  if (found !== undefined || !canStart()) return found
  const own = await start()
  t.teardown(() => own.stop())
  return { user: 'postgres', password: '', ...own }
}

t.test('the start warns of plugins that were registered earlier, because their hooks have no timeout', async t => {
  const warnings: string[][] = []
  const warned: Exporter = { name: 'warnings', start: ({ listen }) => listen(event => { if (event.type === 'platform') warnings.push([...event.warnings]) }) }
  const early = fp(async app => { app.addHook('onClose', async () => {}) }, { name: 'an-early-plugin' })
  const late = fp(async app => { app.addHook('onClose', async () => {}) }, { name: 'a-late-plugin' })
  const first = await serve(t, { options: { exporters: [warned] }, routes: app => { void app.register(late) } })
  await first.app.close()
  const second = await serve(t, { before: app => { void app.register(early) }, options: { exporters: [warned] } })
  await second.app.close()
  t.strictSame(warnings[0], [])
  t.match(warnings[1], [/^registered before fastify-shutdown: an-early-plugin\./])
})

t.test('dependsOn takes the name of a plugin, whose own hooks run when the resource has closed', async t => {
  const calls: string[] = []
  const pause = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }
  const { app, report } = await serve(t, {
    options: {
      resources: {
        worker: { dependsOn: ['@fastify/mysql'], close: async () => { await pause(50); calls.push('worker') } },
        consumer: { dependsOn: ['worker'], close: async () => { await pause(20); calls.push('consumer') } }
      }
    },
    routes: app => {
      void app.register(fp(async app => { app.addHook('onClose', async () => { calls.push('mysql') }) }, { name: '@fastify/mysql' }))
      void app.register(fp(async app => { app.addHook('onClose', async () => { calls.push('other') }) }, { name: 'other' }))
    }
  })
  await app.close()
  t.strictSame(calls, ['other', 'consumer', 'worker', 'mysql'])
  t.match(await report, { outcome: 'clean', exitCode: 0 })
  t.strictSame((await report).resources.map(({ name }) => name), ['worker', 'consumer'])
  t.strictSame((await report).criticalPath, ['onClose hook of other', 'consumer', 'worker', 'onClose hook of @fastify/mysql'])
})

t.test('a resource that depends on a plugin and hangs delays its hook only by its own timeout', async t => {
  const calls: string[] = []
  const { app } = await serve(t, {
    options: { resources: { worker: { dependsOn: ['database'], timeout: 100, close: async () => await new Promise(() => {}) } } },
    routes: app => { void app.register(fp(async app => { app.addHook('onClose', async () => { calls.push('database') }) }, { name: 'database' })) }
  })
  t.match(await app.shutdown.start(), { outcome: 'failed', resources: [{ name: 'worker', outcome: 'abandoned' }], hooks: [{ name: 'database', outcome: 'closed' }] })
  t.strictSame(calls, ['database'])
})

t.test('a name that is neither a resource nor a plugin is refused', async t => {
  const { app } = await build(t, { options: { resources: { worker: { dependsOn: ['@fastify/mysq'], close () {} } } } })
  void app.register(fp(async () => {}, { name: '@fastify/mysql' }))
  await t.rejects(async () => await app.ready(), {
    code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: /Did you mean '@fastify\/mysql'\?$/
  })
})

/** A plugin with an onClose hook that records its own name. */
function closing (name: string, calls: string[]): FastifyPluginAsync {
  return fp(async app => { app.addHook('onClose', async () => { calls.push(name) }) }, { name })
}

t.test('dependsOn takes a plugin that registers other plugins: their hooks also wait', async t => {
  const calls: string[] = []
  const { app, report } = await serve(t, {
    options: { resources: { worker: { dependsOn: ['database'], close: () => { calls.push('worker') } } } },
    routes: app => {
      void app.register(fp(async app => {
        await app.register(closing('mysql', calls))
        app.addHook('onClose', async () => { calls.push('database') })
      }, { name: 'database' }))
    }
  })
  await app.close()
  t.strictSame(calls, ['worker', 'database', 'mysql'])
  t.strictSame((await report).hooks.map(({ name }) => name), ['database', 'mysql'])
})

t.test('a hook that the app adds after an awaited plugin is reported as app', async t => {
  const calls: string[] = []
  const { app, report } = await serve(t, {
    routes: async app => {
      await app.register(closing('plugin', calls))
      app.addHook('onClose', async () => {})
    }
  })
  await app.close()
  t.strictSame((await report).hooks.map(({ name }) => name), ['app', 'plugin'])
})

t.test('a resource that is added before the plugin that it depends on does not delay the close', async t => {
  const calls: string[] = []
  const { app } = await serve(t, {
    routes: app => {
      app.shutdown.resource('worker', { dependsOn: ['database'], close: () => { calls.push('worker') } })
      void app.register(closing('database', calls))
    }
  })
  const { outcome, durationMs } = await app.shutdown.start()
  t.strictSame(calls, ['worker', 'database'])
  t.equal(outcome, 'clean')
  t.ok(durationMs < 5_000, 'it does not wait until the time of the hooks is up')
})

t.test('a resource that is added while the server runs may depend on a plugin', async t => {
  const calls: string[] = []
  const { app } = await serve(t, { routes: app => { void app.register(closing('database', calls)) } })
  app.shutdown.resource('worker', { dependsOn: ['database'], close: () => { calls.push('worker') } })
  t.throws(
    () => app.shutdown.resource('other', { dependsOn: ['databas'], close () {} }), { message: /Did you mean 'database'/ }
  )
  await app.close()
  t.strictSame(calls, ['worker', 'database'])
})

t.test('a resource may depend on a plugin of a child context that has no onClose hook', async t => {
  const { app, report } = await serve(t, {
    options: { resources: { worker: { dependsOn: ['quiet'], close () {} } } },
    routes: app => { void app.register(async child => { await child.register(fp(async () => {}, { name: 'quiet' })) }) }
  })
  await app.close()
  t.match(await report, { outcome: 'clean', resources: [{ name: 'worker', outcome: 'closed' }] })
})
