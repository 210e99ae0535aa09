/** `fastify.shutdown`: the methods of the plugin. */
import type { Shutdown } from '../../types/index'
import type { Traffic } from '../http/traffic'
import type { Resources } from '../resources/resources'
import { received } from '../errors'
import { endingStream } from './ending-stream'
import type { Lifecycle } from './phases'
import type { ShutdownSequence } from './shutdown-parts'
import type { Tasks } from './tasks'

/** The parts that the methods call. */
export interface MethodParts {
  readonly sequence: Pick<ShutdownSequence, 'start'>
  readonly lifecycle: Pick<Lifecycle, 'on' | 'signal'>
  readonly tasks: Pick<Tasks, 'add' | 'run'>
  readonly resources: Pick<Resources, 'add'>
  readonly traffic: Pick<Traffic, 'cut'>
}

/** Creates the methods. */
export function createMethods ({ sequence, lifecycle, tasks, resources, traffic }: MethodParts): Shutdown {
  return {
    // The types allow only a string, but JavaScript does not.
    start (reason = '') {
      return sequence.start({ kind: 'start', detail: typeof reason === 'string' ? reason : received(reason) })
    },
    resource: resources.add,
    waitUntil: (promise, { name = 'waitUntil' } = {}) => tasks.add(name, promise),
    task: tasks.run,
    stream: (source, options = {}) => endingStream(source, options, lifecycle.signal),
    on: lifecycle.on,
    cut: traffic.cut
  }
}
