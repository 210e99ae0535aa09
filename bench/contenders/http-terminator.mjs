/** http-terminator on Fastify's server, then Fastify's own close. */
export const label = 'http-terminator'

export async function install (app) {
  const { default: { createHttpTerminator } } = await import('http-terminator')
  const terminator = createHttpTerminator({ server: app.server })
  process.once('SIGTERM', async () => {
    await terminator.terminate()
    await app.close()
    process.exit(0)
  })
}
