/**
 * Lesson 3: a cache that never closes. It delays the shutdown by its own timeout only: it is forced, the database still
 * closes, and the report names the cache. The exit code is 0, because everything has closed.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    resources: {
      cache: {
        dependsOn: ['database'],
        timeout: 300,
        close: () => new Promise(() => {}),
        force: () => console.log('the cache is forced')
      },
      database: { close: () => console.log('the database has closed') }
    }
  })
  await app.ready()
  const report = await app.shutdown.start('lesson 3')
  for (const { name, outcome, error } of report.resources) console.log(name, outcome, error?.message ?? '')
  console.log('outcome', report.outcome, 'exit code', report.exitCode)
}

void main()
