/** Starts apps with the plugin registered, and closes them at the end of the test. */
import dns from 'node:dns'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import gracefulShutdown = require('../../lib/index')
import { createDeferred, type Deferred } from '../../lib/util/deferred'
import type { Phase, ShutdownOptions, ShutdownReport } from '../../types/index'
import { connect, eventually, get, type Client } from './client'
import { Fastify } from './fastify'

/** The response to a request that the server rejects with the default options. */
export const rejected = {
  status: 503,
  headers: { 'retry-after': '10', connection: 'close' },
  body: /"code":"FST_ERR_SHUTDOWN_DRAINING"/
}

export interface Setup {
  readonly fastify?: FastifyServerOptions | object
  readonly options?: ShutdownOptions
  /** Whether the app awaits `register()`. If not, its routes are added before the plugin is loaded. @default true */
  readonly awaitRegister?: boolean
  /** Runs before the plugin is registered. */
  readonly before?: (app: FastifyInstance) => void | Promise<void>
  readonly routes?: (app: FastifyInstance) => void | Promise<void>
}

export interface Served {
  readonly app: FastifyInstance
  /** Resolves to the report of the shutdown. */
  readonly report: Promise<ShutdownReport>
}

/** An app that has not booted yet. The plugin listens to no signal, so that tests in one process are independent. */
export async function build (t: Test, { fastify = {}, options = {}, awaitRegister = true, before, routes }: Setup = {}): Promise<Served> {
  // A copy, because Fastify 5.0 writes its own logger into the object.
  const app = Fastify({ ...fastify } as FastifyServerOptions) as FastifyInstance
  // A test may have made an earlier close fail on purpose.
  t.teardown(() => app.close().catch(() => {}))
  await before?.(app)
  const report = createDeferred<ShutdownReport>()
  const registered = app.register(gracefulShutdown, { signals: false, delay: 0, onReport: report.resolve, ...options })
  if (awaitRegister) await registered
  await routes?.(app)
  // Not twice, because each await of it continues the boot.
  if (!awaitRegister) await registered
  return { app, report: report.promise }
}

/** An app that listens. */
export async function serve (t: Test, setup: Setup = {}): Promise<Served> {
  const served = await build(t, setup)
  await served.app.listen({ port: 0, host: '127.0.0.1' })
  return served
}

export interface Held extends Served {
  /** The client whose request is in flight. */
  readonly holder: Client
  /** Completes the response to `holder`. */
  readonly release: () => void
}

/** An app that listens, with one request in flight that keeps the drain open until `release()`. */
export async function serveHeld (t: Test, setup: Setup = {}): Promise<Held> {
  const gate: Deferred<void> = createDeferred()
  t.teardown(() => gate.resolve())
  const served = await serve(t, {
    ...setup,
    routes: async app => {
      app.get('/hold', async () => {
        await gate.promise
        return 'held'
      })
      await setup.routes?.(app)
    }
  })
  const holder = await connect(served.app)
  t.teardown(() => holder.socket.destroy())
  holder.send(get('/hold'))
  await eventually(() => served.app.shutdownState.activeRequests === 1, () => served.app.shutdownState)
  return { ...served, holder, release: gate.resolve }
}

/** Gives 'localhost' two addresses until the end of the test, so that Fastify binds two servers. */
export function giveLocalhostTwoAddresses (t: Test): void {
  const { lookup } = dns
  t.teardown(() => { dns.lookup = lookup })
  dns.lookup = ((host: string, ...rest: [{ all?: boolean }, (...answer: unknown[]) => void]) => {
    if (host !== 'localhost') return lookup(host, ...rest as unknown as [() => void])
    const callback = rest.at(-1) as (...answer: unknown[]) => void
    const addresses = ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 }))
    process.nextTick(() => rest[0].all === true ? callback(null, addresses) : callback(null, addresses[0]!.address, 4))
  }) as typeof dns.lookup
}

/** Resolves when the phase is entered. */
export function entered (app: FastifyInstance, phase: Phase): Promise<void> {
  return new Promise(resolve => {
    if (app.shutdownState.phase === phase) resolve()
    else app.shutdown.on(phase, () => resolve())
  })
}
