/** A bare Fastify and close-with-grace, as its README shows it. */
import closeWithGrace from 'close-with-grace'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApp, delay, listen, timeout } from './app.mjs'

let ready = true
const app = await createApp({ ready: () => ready })
closeWithGrace({ delay: timeout + delay }, async () => {
  ready = false
  if (delay > 0) await sleep(delay)
  await app.close()
})
await listen(app)
