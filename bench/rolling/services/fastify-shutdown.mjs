/**
 * This package. DELAY_MS is its lame-duck, a number or a range; without it everything is at its defaults. PLUGIN is the
 * file of the package, for a test that does not use the build.
 */
import { createApp, listen } from './app.mjs'

const { default: gracefulShutdown } = await import(process.env.PLUGIN ?? '../../../dist/lib/index.js')

const options = process.env.DELAY_MS === undefined ? {} : { delay: JSON.parse(process.env.DELAY_MS) }
const app = await createApp({
  first: app => app.register(gracefulShutdown, options),
  ready: app => app.shutdownState.ready
})
await listen(app)
