/** @godaddy/terminus, as its README shows it; it answers the readiness route itself. */
import { createTerminus } from '@godaddy/terminus'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApp, delay, listen, signals, timeout } from './app.mjs'

const app = await createApp()
await app.ready()
createTerminus(app.server, {
  signals: [...signals],
  timeout,
  useExit0: true,
  healthChecks: { '/ready': async () => {} },
  beforeShutdown: async () => { if (delay > 0) await sleep(delay) },
  onSignal: () => app.close()
})
await listen(app)
