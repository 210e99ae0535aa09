/**
 * Lesson 4: a plugin adds a resource, which closes in the order of its dependencies, and removes another one. An object
 * with
 * `Symbol.asyncDispose` is a resource, too.
 */
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

class Metrics implements AsyncDisposable {
  async [Symbol.asyncDispose] (): Promise<void> {
    console.log('metrics have been sent')
  }
}

async function search (app: FastifyInstance): Promise<void> {
  app.shutdown.resource('search', {
    dependsOn: ['metrics'],
    timeout: 1_000,
    // The signal aborts at the timeout: stop what can be stopped.
    async close (signal) {
      await sleep(20, undefined, { signal })
      console.log('search has closed')
    },
    force: () => console.log('search was forced')
  })
  const remove = app.shutdown.resource('scratch', { close: () => console.log('never printed') })
  remove()
}

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, { resources: { metrics: new Metrics() } })
  await app.register(search)
  await app.ready()
  await app.shutdown.start('lesson 4')
}

void main()
