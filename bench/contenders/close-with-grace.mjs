/** close-with-grace as in its README, with Fastify. */
export const label = 'close-with-grace'
export const delays = true

export async function install (app, { delay }) {
  const { default: closeWithGrace } = await import('close-with-grace')
  closeWithGrace({ delay: 10_000 }, async () => {
    if (delay > 0) await new Promise(resolve => setTimeout(resolve, delay))
    await app.close()
  })
}
