/** @godaddy/terminus on Fastify's server. Its exit is by code 0 instead of by the signal, so that the exit can be seen. */
export const label = '@godaddy/terminus'
export const delays = true

export async function install (app, { delay }) {
  const { default: { createTerminus } } = await import('@godaddy/terminus')
  createTerminus(app.server, {
    signal: 'SIGTERM',
    useExit0: true,
    // A timer of 0 would be a millisecond.
    ...(delay > 0 && { beforeShutdown: () => new Promise(resolve => setTimeout(resolve, delay)) }),
    onSignal: () => app.close()
  })
}
