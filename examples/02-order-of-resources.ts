/**
 * Lesson 2: a worker, a cache and a database. Each names what it uses, and they are declared in any order. Each closes
 * after its dependants. The worker pauses as soon as the shutdown begins, so that it takes no new job.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    resources: {
      database: { close: () => close('database', 20) },
      worker: { dependsOn: ['cache', 'database'], pause: () => console.log('worker pauses'), close: () => close('worker', 50) },
      cache: { dependsOn: ['database'], close: () => close('cache', 10) },
      mailer: { close: () => close('mailer', 10) } // depends on nothing: it closes in parallel
    }
  })
  await app.ready()
  const report = await app.shutdown.start('lesson 2')
  console.log('what set the duration:', report.criticalPath.join(' -> '))
}

async function close (name: string, ms: number): Promise<void> {
  console.log(`${name} begins to close`)
  await sleep(ms)
  console.log(`${name} has closed`)
}

void main()
