/** Fastify alone, closed as its documentation says: the baseline of all comparisons. */
export const label = 'bare Fastify'

export function install (app) {
  process.once('SIGTERM', () => app.close())
}
