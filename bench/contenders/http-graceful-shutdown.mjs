/** http-graceful-shutdown on Fastify's server with its defaults. */
export const label = 'http-graceful-shutdown'
export const delays = true

export async function install (app, { delay }) {
  const { default: gracefulShutdown } = await import('http-graceful-shutdown')
  gracefulShutdown(app.server, {
    // A timer of 0 would be a millisecond.
    ...(delay > 0 && { preShutdown: () => new Promise(resolve => setTimeout(resolve, delay)) }),
    onShutdown: () => app.close()
  })
}
