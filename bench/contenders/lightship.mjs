/** lightship in its local mode: a free port, no delay. Its CommonJS entry throws on Node 20, so it is imported. */
export const label = 'lightship'
export const parts = ['running', 'tail', 'idle', 'start']

export async function install (app) {
  const { createLightship } = await import('lightship')
  const lightship = await createLightship({ detectKubernetes: true, shutdownDelay: 0 })
  lightship.registerShutdownHandler(() => app.close())
  lightship.signalReady()
}
