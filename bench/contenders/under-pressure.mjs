/** @fastify/under-pressure: shuts nothing down, but is on the path of every request as we are. For scale. */
export const label = '@fastify/under-pressure'
export const parts = ['running', 'start']

export async function install (app) {
  const { default: underPressure } = await import('@fastify/under-pressure')
  await app.register(underPressure, { maxEventLoopDelay: 10_000 })
}
