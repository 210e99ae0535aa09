/**
 * The core: creates the parts of a shutdown and connects them. It does not use Fastify, because
 * the host is an interface. The steps of a shutdown are in `lifecycle/shutdown.ts`.
 */
import type { FastifyBaseLogger } from 'fastify'
import type { ShutdownState } from '../types/index'
import { startAppExporters } from './exporters/app-exporters'
import { flushLog } from './exporters/flush-log'
import type { Probe } from './http/probes'
import { createRejection, type Rejection } from './http/rejection'
import type { HostServers } from './http/servers'
import { createTraffic, type Traffic } from './http/traffic'
import type { Close } from './lifecycle/close'
import { createEvents, type Events } from './lifecycle/events'
import { createMethods, type Methods } from './lifecycle/methods'
import { createLifecycle, type LifecycleControl } from './lifecycle/phases'
import { createProblems, type OnProblem, type Problems } from './lifecycle/problems'
import { createShutdown } from './lifecycle/shutdown'
import type { ShutdownSequence } from './lifecycle/shutdown-parts'
import { createState } from './lifecycle/state'
import { createTasks, type Tasks } from './lifecycle/tasks'
import type { Settings } from './options'
import { isClusterWorker } from './process/platform'
import { connectManagers } from './process/process-managers'
import { joinProcess } from './process/signals'
import { createResources, type HostHooks } from './resources/resources'

/** The parts that need no host. A host may use them before the core exists. */
export interface Base {
  readonly lifecycle: LifecycleControl
  readonly events: Events
  readonly tasks: Tasks
  readonly problems: Problems
  readonly onProblem: OnProblem
}

/** What the core needs of the server that it shuts down. */
export interface Host {
  /** The log of the exporter `log`. It is flushed at the end. */
  readonly log: FastifyBaseLogger
  readonly servers: HostServers
  /** The close of the host. It calls `drain` of the sequence first, and `finish` last. */
  readonly close: Close
  readonly hooks: HostHooks
}

/** The parts of one shutdown, as the host uses them. */
export interface Core {
  readonly state: ShutdownState
  readonly methods: Methods
  readonly traffic: Traffic
  readonly rejection: Rejection
  readonly probes: readonly Probe[]
  readonly sequence: Pick<ShutdownSequence, 'drain'>
  /**
   * Checks the resources. Call it when all of them are registered.
   *
   * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
   */
  seal(): void
  /** The host is ready. @param warnings problems of the setup, which the log reports */
  boot(warnings: readonly string[]): void
  /** The host listens. */
  listening(): void
}

/** Creates the parts that need no host. */
export function createBase (): Base {
  const problems = createProblems()
  const events = createEvents(error => problems.record('A listener of the events threw', error))
  const onProblem = (message: string, error: unknown): void => {
    problems.record(message, error)
    events.emit({ type: 'problem', message, error })
  }
  const lifecycle = createLifecycle(error => onProblem('A phase listener threw', error))
  const tasks = createTasks(lifecycle, (result, error) => {
    const { name, outcome } = result
    if (error !== null && outcome !== 'cancelled') problems.record(`Task '${name}' ${outcome}`, error)
    events.emit({ type: 'task', result, error })
  })
  return { lifecycle, events, tasks, problems, onProblem }
}

/**
 * Creates the core, and attaches it to the servers and hooks of the host.
 *
 * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT
 */
export function createCore (settings: Settings, base: Base, { log, servers, close, hooks }: Host): Core {
  const { lifecycle, events, tasks, problems, onProblem } = base
  // First, because it may throw, and nothing has been attached to the servers yet: the caller may try again.
  const resources = createResources(hooks, {
    settings,
    lifecycle,
    log,
    drain: () => sequence.drain(),
    finish: () => sequence.finish(),
    runInside: close.runInside,
    onResource: result => events.emit({ type: 'resource', result }),
    onHook: result => events.emit({ type: 'hook', result }),
    onLastResources: (names, atMs) => events.emit({ type: 'last-resources', names, atMs }),
    onProblem
  })
  const rejection = createRejection(settings.retryAfter, () => state, onProblem)
  const traffic = createTraffic(servers, {
    settings,
    lifecycle,
    events,
    tasks,
    rejection,
    inCluster: isClusterWorker(),
    onProblem,
    // The service continues with the next app, which connects to the managers itself.
    onHandover: () => managers.close()
  })
  const state = createState({ lifecycle, table: traffic.inFlight, tasks, webSockets: () => traffic.activeWebSockets })
  const endExporters = startAppExporters(settings.exporters, { state, log, listen: events.listen }, onProblem)
  const sequence = createShutdown({
    lifecycle,
    settings,
    state,
    events,
    tasks,
    traffic,
    resources,
    problems,
    close,
    joinProcess,
    async flush () {
      managers.close()
      await endExporters()
    },
    flushLog: () => flushLog(log),
    onForcedExit (message) {
      log.error({ shutdown: { phase: lifecycle.phase, pending: sequence.pending() } }, `shutdown: ${message}`)
    },
    onProblem
  })
  const managers = connectManagers({ start: sequence.start, state, on: lifecycle.on }, settings.signals, onProblem)

  // The files are loaded only if they are used, and before the server listens. A deploy may replace them later.
  const probes = settings.probes === false
    ? []
    : (require('./http/probes') as typeof import('./http/probes.js')).createProbes(
        settings.probes, { lifecycle, state, retryAfter: rejection.retryAfter, onProblem }
      )

  return {
    state,
    methods: createMethods({ sequence, lifecycle, tasks, resources, traffic }),
    traffic,
    rejection,
    probes,
    sequence,
    seal: resources.seal,
    boot (warnings) {
      lifecycle.boot()
      const { platform, gracePeriod, timeouts, delay } = settings
      const others = sequence.meetOthers()
      events.emit({
        type: 'platform',
        platform,
        delay: delay.min === delay.max ? delay.max : delay,
        gracePeriod,
        // A copy, because the timeouts change at the end of lame-duck.
        timeouts: { ...timeouts },
        notes: others.notes,
        warnings: [...warnings, ...others.warnings]
      })
    },
    listening () {
      traffic.servers.refresh()
      managers.notifyReady()
    }
  }
}
