/** Fastify alone, closed as its documentation says: what everybody else is compared with. */
export const label = 'bare Fastify'

export function install (app) {
  process.once('SIGTERM', () => app.close())
}
