/** This package; DELAY_MS is its lame-duck, and without it everything is at its defaults. */
import gracefulShutdown from '../../../dist/lib/index.js'
import { createApp, listen } from './app.mjs'

const options = process.env.DELAY_MS === undefined ? {} : { delay: Number(process.env.DELAY_MS) }
const app = await createApp({
  first: app => app.register(gracefulShutdown, options),
  ready: app => app.shutdownState.ready
})
await listen(app)
