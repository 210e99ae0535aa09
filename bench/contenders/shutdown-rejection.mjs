/** Ours with a body of the app's own, which does not go through its error handler. */
import { loadShutdown } from '../support/app.mjs'

export const label = 'fastify-shutdown, `rejection`'
export const parts = ['rejection']

export async function install (app, { delay, plugin }) {
  await app.register(loadShutdown(), { delay, ...plugin, errorResponseBuilder: () => 'busy' })
}
