/** Lesson 24: ECMAScript modules, with `await` at the top level. */
import Fastify from 'fastify'
import gracefulShutdown, { teardown } from 'fastify-shutdown'
import { pgPool } from 'fastify-shutdown/adapters'

const app = Fastify()
await app.register(gracefulShutdown, {
  onReport: ({ outcome }) => console.log('ECMAScript', outcome, typeof teardown, typeof pgPool)
})
await app.listen({ port: 0, host: '127.0.0.1' })
process.kill(process.pid, 'SIGTERM')
