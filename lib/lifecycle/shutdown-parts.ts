/** What a shutdown is made of: the parts that it uses, and the steps that it offers to the plugin. */
import type { ShutdownReason, ShutdownReport, ShutdownState } from '../../types/index'
import type { Traffic } from '../http/traffic'
import type { Settings } from '../options'
import type { OtherOwners } from '../process/other-owners'
import type { Member, Membership } from '../process/signals'
import type { Resources } from '../resources/resources'
import type { Teardown } from '../resources/teardown'
import type { Close } from './close'
import type { Events } from './events'
import type { LifecycleControl } from './phases'
import type { OnProblem, Problems } from './problems'
import type { Tasks } from './tasks'

/** The parts that a shutdown uses: one object of each wing. */
export interface ShutdownParts {
  readonly lifecycle: LifecycleControl
  readonly settings: Pick<
    Settings,
    'delay' | 'timeouts' | 'refitTimeouts' | 'newConnections' | 'onReport' | 'signals' | 'uncaughtErrors' | 'exit'
  >
  readonly state: Pick<ShutdownState, 'activeRequests' | 'activeStreams' | 'activeWebSockets'>
  readonly events: Events
  readonly tasks: Tasks
  readonly traffic: Omit<Traffic, 'inFlight' | 'servers' | 'activeWebSockets' | 'cut'>
  readonly resources: Pick<Resources, 'pause' | 'paused' | 'pendingHooks' | 'hookResults' | 'startTeardown'>
  /** The close of the host, such as `app.close()`. */
  readonly close: Close
  /** Adds this instance to the process. A signal or an uncaught error then begins its shutdown. */
  readonly joinProcess: (member: Member) => Membership
  /** Ends the exporters and the connections to process managers: the last step before the process may exit. */
  readonly flush: () => Promise<void>
  /** Flushes the log, which other hooks may have written to after `flush`. Never rejects. */
  readonly flushLog: () => Promise<void>
  /** Logs a line right before the process is ended by force. */
  readonly onForcedExit: (message: string) => void
  readonly problems: Problems
  readonly onProblem: OnProblem
}

/** The shutdown of one app. */
export interface ShutdownSequence {
  /**
   * Begins the shutdown, or joins the current one. Always resolves to the report, also if `app.close()` rejects or
   * never settles.
   */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** From now on, the end of this shutdown does not end the process. */
  disableExit(): void
  /**
   * Waits for the requests, streams and tasks in flight. avvio calls it first. Never rejects.
   *
   * @returns the teardown of the resources, which has begun
   */
  drain(): Promise<Teardown>
  /**
   * Closes the remaining resources. avvio calls it last. The report is published when Fastify's close has settled.
   *
   * @throws FST_ERR_SHUTDOWN_TEARDOWN if a resource or hook did not close
   */
  finish(): Promise<void>
  /** Returns what the shutdown waits for, by name. */
  pending(): string[]
  /** Looks for other owners of the process. Call it when the app is ready. */
  meetOthers(): OtherOwners
}
