/**
 * Lesson 5: the same teardown for a script or a worker without a server. It does not throw if a resource fails to
 * close; the result has the outcome of each.
 */
import { teardown } from 'fastify-shutdown'

async function main (): Promise<void> {
  const result = await teardown({
    database: { close: async () => console.log('database has closed') },
    cache: { dependsOn: ['database'], close: async () => { throw new Error('the cache is on fire') } },
    import: { dependsOn: ['database', 'cache'], close: () => console.log('import has stopped') }
  }, { timeout: 1_000 })
  for (const { name, outcome, error } of result.resources) console.log(name, outcome, error?.message ?? '')
  process.exitCode = result.outcome === 'clean' ? 0 : 1
}

void main()
