/** fastify-graceful-shutdown, as its README shows it. */
import gracefulShutdown from 'fastify-graceful-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApp, delay, listen, timeout } from './app.mjs'

let ready = true
const app = await createApp({
  first: app => app.register(gracefulShutdown, { timeout: timeout + delay }),
  ready: () => ready
})
app.after(() => {
  app.gracefulShutdown(async () => {
    ready = false
    if (delay > 0) await sleep(delay)
  })
})
await listen(app)
