/** `fastify.shutdown`: the methods of the plugin. */
import type { Shutdown } from '../../types/index'
import type { Traffic } from '../http/traffic'
import type { Resources } from '../resources/resources'
import { received } from '../errors'
import { kTestKit } from '../symbols'
import { endingStream } from './ending-stream'
import type { Lifecycle } from './phases'
import type { ShutdownSequence } from './shutdown'
import type { Tasks } from './tasks'

/** The parts that the methods call. */
export interface MethodParts {
  readonly sequence: Pick<ShutdownSequence, 'start' | 'disableExit'>
  readonly lifecycle: Pick<Lifecycle, 'on' | 'signal' | 'booted'>
  readonly tasks: Pick<Tasks, 'add' | 'run'>
  readonly resources: Pick<Resources, 'add'>
  readonly traffic: Pick<Traffic, 'cut'>
}

/** What only the test kit uses. */
export interface TestKit {
  /** Whether the app is ready. */
  readonly booted: boolean
  /** Begins the shutdown, or joins the current one. The process does not exit after it, also with `exit: true`. */
  readonly startWithoutExit: Shutdown['start']
}

/** `fastify.shutdown`, with the part for the test kit. */
export interface Methods extends Shutdown {
  readonly [kTestKit]: TestKit
}

/** Creates the methods. */
export function createMethods ({ sequence, lifecycle, tasks, resources, traffic }: MethodParts): Methods {
  // The types allow only a string, but JavaScript does not.
  const start: Shutdown['start'] = (reason = '') =>
    sequence.start({ kind: 'start', detail: typeof reason === 'string' ? reason : received(reason) })
  return {
    start,
    [kTestKit]: {
      get booted () { return lifecycle.booted },
      startWithoutExit (reason) {
        sequence.disableExit()
        return start(reason)
      }
    },
    resource: resources.add,
    waitUntil: (promise, { name = 'waitUntil' } = {}) => tasks.add(name, promise),
    task: tasks.run,
    stream: (source, options = {}) => endingStream(source, options, lifecycle.signal),
    on: lifecycle.on,
    cut: traffic.cut
  }
}
