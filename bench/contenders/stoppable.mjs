/** stoppable on Fastify's server with a grace of one second, then Fastify's own close. */
export const label = 'stoppable'
export const parts = ['running', 'tail', 'idle', 'restarts', 'memory', 'start']

export async function install (app) {
  const { default: stoppable } = await import('stoppable')
  stoppable(app.server, 1_000)
  process.once('SIGTERM', () => app.server.stop(async () => {
    await app.close()
    process.exit(0)
  }))
}
