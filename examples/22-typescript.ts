/**
 * Lesson 22: the types. The import adds `shutdown`, `shutdownState`, `request.shutdownSignal` and `config.shutdown` to
 * those of Fastify, and all other types are members of the default export.
 */
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'

const search: gracefulShutdown.Resource = {
  dependsOn: ['database'],
  close: async signal => { signal.throwIfAborted() }
}

const options = {
  timeouts: { requests: 10_000 },
  categories: { report: 20_000 },
  resources: { search, database: { close: () => {} } },
  onReport
} satisfies gracefulShutdown.Options

function onReport ({ outcome, resources }: gracefulShutdown.ShutdownReport): void {
  console.log(outcome, resources.map(({ name }) => name).join(', '))
}

async function routes (app: FastifyInstance): Promise<void> {
  app.get('/', { config: { shutdown: { category: 'report' } } }, async request => {
    const { phase, accepting }: gracefulShutdown.ShutdownState = app.shutdownState
    return { phase, accepting, aborted: request.shutdownSignal.aborted }
  })
}

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, options)
  await app.register(routes)
  console.log((await app.inject('/')).body)
  await app.shutdown.start('lesson 22')
}

void main()
