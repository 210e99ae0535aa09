/** Ours with `track: 'category'`. */
import { loadShutdown } from '../support/app.mjs'

export const label = "fastify-shutdown, track 'category'"
export const parts = ['running', 'memory', 'start', 'stall']

export async function install (app, { delay, plugin }) {
  await app.register(loadShutdown(), { track: 'category', delay, ...plugin })
}
