/** An app with the plugin in it, closed when its test is over. */
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import gracefulShutdown = require('../../lib/index')
import { Fastify } from './fastify'
import type { ShutdownOptions, ShutdownReport } from '../../types/index'

export interface Setup {
  readonly fastify?: FastifyServerOptions | object
  readonly options?: ShutdownOptions
  /** What is there before the plugin. */
  readonly before?: (app: FastifyInstance) => void | Promise<void>
  readonly routes?: (app: FastifyInstance) => void | Promise<void>
}

export interface Served {
  readonly app: FastifyInstance
  /** The report, once there is one. */
  readonly report: Promise<ShutdownReport>
}

/** An app that has not booted yet. The plugin touches no signal, so that tests in one process never meet. */
export async function build (t: Test, { fastify = {}, options = {}, before, routes }: Setup = {}): Promise<Served> {
  const app = Fastify(fastify as FastifyServerOptions) as FastifyInstance
  // A test may have closed it in vain on purpose.
  t.teardown(() => app.close().catch(() => {}))
  await before?.(app)
  let told!: (report: ShutdownReport) => void
  const report = new Promise<ShutdownReport>(resolve => { told = resolve })
  await app.register(gracefulShutdown, { signals: false, delay: 0, onReport: told, ...options })
  await routes?.(app)
  return { app, report }
}

/** An app that listens. */
export async function serve (t: Test, setup: Setup = {}): Promise<Served> {
  const served = await build(t, setup)
  await served.app.listen({ port: 0, host: '127.0.0.1' })
  return served
}
