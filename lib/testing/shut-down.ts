/** `shutDown`: a whole shutdown inside a test. */
import type { FastifyInstance } from 'fastify'
import type { Shutdown, ShutdownReport } from '../../types/index'
import { ShutdownTestError } from '../errors'
import { kStartWithoutExit } from '../symbols'

/**
 * Shuts an app down as `app.shutdown.start()` does, or joins its current shutdown. The process does not exit after it,
 * also with `exit: true` and with `signals`, and its exit code stays unchanged. A second signal still ends the process.
 *
 * The app need not be ready. If `register()` was not awaited, the plugins load first.
 *
 * @param reason the report has it as `reason.detail`. @default 'test'
 * @returns the report, also of a shutdown that failed or is already over. Rejects if the boot of the app fails
 * @throws FST_ERR_SHUTDOWN_TEST if the plugin is not registered
 */
export async function shutDown (app: FastifyInstance, reason = 'test'): Promise<ShutdownReport> {
  if (methodsOf(app) === undefined) await app.ready()
  const start = methodsOf(app)?.[kStartWithoutExit]
  if (start === undefined) {
    throw new ShutdownTestError('shutDown(app) expects an app with the plugin of the same package: register it first')
  }
  return await start(reason)
}

type Methods = { readonly [kStartWithoutExit]?: Shutdown['start'] } | undefined

function methodsOf (app: FastifyInstance): Methods {
  return app.shutdown as unknown as Methods
}
