/**
 * Lesson 3: a cache that never closes. It costs its own timeout and nothing else: it is forced, the database behind it still
 * closes, the report names it, and the exit code says that something went wrong.
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
