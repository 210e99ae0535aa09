/** http-graceful-shutdown on Fastify's server. */
export const label = 'http-graceful-shutdown'
export const delays = true

export async function install (app, { delay }) {
  const { default: gracefulShutdown } = await import('http-graceful-shutdown')
  gracefulShutdown(app.server, {
    timeout: 10_000,
    preShutdown: () => new Promise(resolve => setTimeout(resolve, delay)),
    onShutdown: () => app.close()
  })
}
