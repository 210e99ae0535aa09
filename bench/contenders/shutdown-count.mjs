/** Ours with `track: 'count'`, the default. */
import { loadShutdown } from '../support/app.mjs'

export const label = "fastify-shutdown, track 'count'"
export const delays = true

export async function install (app, { delay, plugin }) {
  await app.register(loadShutdown(), { track: 'count', delay, ...plugin })
}
