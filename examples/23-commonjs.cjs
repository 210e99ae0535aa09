/** Lesson 23: CommonJS. The plugin is the export itself, and the named exports are its properties. */
const Fastify = require('fastify')
const gracefulShutdown = require('fastify-shutdown')
const { teardown } = require('fastify-shutdown')
const { pgPool } = require('fastify-shutdown/adapters')

async function main () {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    onReport: ({ outcome }) => console.log('CommonJS', outcome, typeof teardown, typeof pgPool)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  process.kill(process.pid, 'SIGTERM')
}

main()
