/** fastify-graceful-shutdown with its defaults. */
export const label = 'fastify-graceful-shutdown'

export async function install (app) {
  const { default: gracefulShutdown } = await import('fastify-graceful-shutdown')
  await app.register(gracefulShutdown)
}
