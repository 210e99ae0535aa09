/** `shutDown`: a whole shutdown inside a test. */
import type { ShutdownReport } from '../../types/index'
import { ShutdownTestError } from '../errors'
import type { Methods, TestKit } from '../lifecycle/methods'
import { kTestKit } from '../symbols'
import type { AnyApp } from './any-app'

/**
 * Shuts an app down as `app.shutdown.start()` does, or joins its current shutdown. The process does not exit after it,
 * also with `exit: true` and with `signals`, and its exit code stays unchanged. A second signal still ends the process.
 *
 * If the app is not ready, it boots first, as in a service that gets its signal later.
 *
 * @param reason the report has it as `reason.detail`. @default 'test'
 * @returns the report, also of a shutdown that failed or is already over. Rejects if the boot of the app fails
 * @throws FST_ERR_SHUTDOWN_TEST if the plugin is not registered
 */
export async function shutDown (app: AnyApp, reason = 'test'): Promise<ShutdownReport> {
  // Only then, because the shutdown of a ready app begins in this call, before the test goes on.
  if (testKitOf(app)?.booted !== true) await app.ready()
  const testKit = testKitOf(app)
  if (testKit === undefined) {
    throw new ShutdownTestError('shutDown(app) expects an app with fastify-shutdown: register the plugin first')
  }
  return await testKit.startWithoutExit(reason)
}

function testKitOf (app: AnyApp): TestKit | undefined {
  return (app.shutdown as Partial<Methods> | undefined)?.[kTestKit]
}
