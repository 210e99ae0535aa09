/**
 * Lesson 25: fastify-cli. Start it with `fastify start examples/25-fastify-cli.cjs`. fastify-cli would end the process
 * 500 ms after a signal; with the plugin, a request of 800 ms is answered.
 */
const gracefulShutdown = require('fastify-shutdown')
const { setTimeout: sleep } = require('node:timers/promises')

module.exports = async function (app, _options) {
  app.register(gracefulShutdown, {
    resources: { database: { close: () => console.log('the database has closed') } },
    onReport: ({ outcome }) => console.log('outcome', outcome)
  })
  app.get('/slow', async () => {
    process.kill(process.pid, 'SIGTERM')
    await sleep(800)
    return { finished: true }
  })
}
