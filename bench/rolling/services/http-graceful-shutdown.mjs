/** http-graceful-shutdown, as its README and its Fastify example show it. */
import gracefulShutdown from 'http-graceful-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApp, delay, listen, signals, timeout } from './app.mjs'

let ready = true
const app = await createApp({ ready: () => ready })
await app.ready()
gracefulShutdown(app.server, {
  signals: signals.join(' '),
  timeout,
  preShutdown: async () => {
    ready = false
    if (delay > 0) await sleep(delay)
  },
  onShutdown: () => app.close()
})
await listen(app)
