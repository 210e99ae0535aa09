/** Ours with `track: 'detail'`. */
import { loadShutdown } from '../support/app.mjs'

export const label = "fastify-shutdown, track 'detail'"
export const parts = ['running', 'memory', 'start', 'stall']

export async function install (app, { delay, plugin }) {
  await app.register(loadShutdown(), { track: 'detail', delay, ...plugin })
}
