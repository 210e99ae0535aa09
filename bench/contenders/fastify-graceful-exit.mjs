/** @mgcrea/fastify-graceful-exit with its defaults. */
export const label = '@mgcrea/fastify-graceful-exit'

export async function install (app) {
  const { default: gracefulExit } = await import('@mgcrea/fastify-graceful-exit')
  await app.register(gracefulExit)
}
