/**
 * The story of a shutdown. `run` reads like the table in the README: running -> lame-duck -> draining -> cleaning -> shutdown.
 * It knows its parts as arrays and functions, none by name, and neither Fastify nor the process.
 */
import { setMaxListeners } from 'node:events'
import type { HookResult, Outcome, Phase, Resource, ShutdownReason, Timeouts } from '../../types/index'
import { every, now, sleep, startDeadline, within, type Deadline } from '../util/time'
import type { Drain } from '../http/drains/drain'
import { ShutdownTimeoutError } from '../errors'
import type { Events } from './events'
import { later } from '../util/deferred'
import type { PhaseLine } from './phases'
import type { Story } from './report'
import type { Tasks } from './tasks'
import { createTeardown, outcomeOf, type Teardown } from '../resources/teardown'

export interface Parts {
  readonly phase: PhaseLine
  readonly events: Events
  readonly delay: number
  readonly timeouts: Required<Timeouts>
  /** Whether a load balancer could see us at all. */
  readonly listening: () => boolean
  /** Whether new connections are to be refused from draining on, rather than answered. */
  readonly refusing: (hadLameDuck: boolean) => boolean
  readonly stopListening: () => Promise<void>
  /** Nobody listens any more, and it still serves: who was accepted last gets to say what they want. */
  readonly hearLast: () => Promise<void>
  readonly abort: AbortController
  readonly drains: readonly Drain[]
  readonly tasks: Tasks
  /** Nothing is in flight any more, or its time is up: end the connections. `ms` is what stragglers may take. */
  readonly endConnections: (ms: number) => Promise<Outcome>
  /** The app's own onClose hooks that are running. */
  readonly hooks: () => string[]
  /** Asked for when they begin to pause, and again when they begin to close. */
  readonly resources: () => ReadonlyMap<string, Resource>
  readonly placed: () => ReadonlySet<string>
}

export interface Coordinator {
  /** Begin, or join what has begun: everyone gets the same story. Never rejects. */
  shutDown(reason: ShutdownReason): Promise<Story>
  /** Resolves when all is in and the server may go; begins the shutdown where nothing has begun. */
  drained(reason: ShutdownReason): Promise<Teardown>
  /** Ask those resources to pause that have not been asked yet. */
  pause(): void
  /** Fastify has stopped and every hook of the app has run. */
  serverGone(): void
  /** One of the app's own onClose hooks has run. */
  hookDone(result: HookResult): void
  /** What a hook or a late resource may still take, in milliseconds. */
  remaining(): number
  readonly reason: ShutdownReason | null
}

/** What a 503 that is just being written, and read by one who still sends, may take when all else is in, in milliseconds. */
const stragglers = 2_500

export function createCoordinator (parts: Parts): Coordinator {
  const { phase, events, timeouts } = parts
  // The resources' share of the total, so that a stuck request can never leave the database without time to close.
  const reserve = Math.min(timeouts.resources, timeouts.total / 2)
  const phases: { phase: Phase, startedMs: number, durationMs: number, outcome: Outcome }[] = []
  const hooks: HookResult[] = []
  const pausing: Promise<void>[] = []
  const asked = new Map<string, Resource['pause']>()
  const drained = later<Teardown>()
  const serverGone = later<void>()
  let reason: ShutdownReason | null = null
  let story: Promise<Story> | null = null
  let deadline: Deadline | null = null
  let began = 0
  // Every stream and every task may listen to it.
  setMaxListeners(0, parts.abort.signal)

  const self: Coordinator = {
    get reason () { return reason },
    shutDown (why) {
      if (story !== null) return story
      const told = later<Story>()
      story = told.promise // Before it begins: a listener of its first phase may ask again.
      told.resolve(run(why))
      return story
    },
    drained (why) {
      void self.shutDown(why)
      return drained.promise
    },
    pause,
    serverGone: () => serverGone.resolve(),
    hookDone: result => { hooks.push(result) },
    remaining: () => deadline?.remaining() ?? Infinity
  }
  return self

  async function run (why: ShutdownReason): Promise<Story> {
    reason = why
    began = now()
    const startedAt = new Date()
    let inside = (): string[] => []
    const stopTelling = every(1_000, () => tell(inside()))

    const lameDuck = why.kind !== 'close' && parts.delay > 0 && parts.listening()
    const time = deadline = startDeadline(lameDuck ? parts.delay + timeouts.total : timeouts.total)
    if (lameDuck) {
      enter('lame-duck')
      for (const drain of parts.drains) drain.discourage?.(parts.delay)
      pause()
      await sleep(parts.delay)
    }
    // While it still serves: what comes in with the last accepts is answered, not refused.
    if (parts.refusing(lameDuck)) {
      await parts.stopListening()
      await parts.hearLast()
    }

    enter('draining')
    inside = () => [...parts.drains.flatMap(drain => drain.inside()), ...parts.tasks.inside().map(name => `task ${name}`)]
    parts.abort.abort(new DOMException('The server is shutting down', 'AbortError'))
    for (const drain of parts.drains) drain.tell()
    pause()
    const drains = await Promise.all(parts.drains.map(drain => drain.drain(time.stage(drain.timeout, reserve))))
    await parts.tasks.drain(time.stage(timeouts.tasks, reserve))
    await Promise.all(pausing)
    await parts.stopListening()
    const connections = await parts.endConnections(time.stage(stragglers, reserve))
    // An exempt request, served to the very end, may have handed over one more.
    const tasks = await parts.tasks.drain(time.stage(timeouts.tasks, reserve))
    end(worst([...drains, tasks, connections]))

    enter('cleaning')
    const teardown = createTeardown(parts.resources(), {
      timeout: timeouts.resources, remaining: time.remaining, placed: parts.placed(), onResult: result => events.emit({ type: 'resource', result })
    })
    inside = () => [...teardown.inside().map(name => `resource ${name}`), ...parts.hooks().map(name => `onClose hook of ${name}`), ...parts.drains.flatMap(drain => drain.inside())]
    drained.resolve(teardown)
    await serverGone.promise
    teardown.openAll()
    const resources = await teardown.finished()
    end(outcomeOf([...resources, ...hooks]))

    enter('shutdown')
    stopTelling()
    end('clean')
    return { reason: why, startedAt, durationMs: now() - began, phases, resources, hooks, criticalPath: teardown.criticalPath() }
  }

  function enter (next: Phase): void {
    const open = phases.at(-1)
    if (open !== undefined && open.durationMs < 0) end('clean')
    phases.push({ phase: next, startedMs: now() - began, durationMs: -1, outcome: 'clean' })
    const previous = phase.enter(next)
    events.emit({ type: 'phase', phase: next, previous, reason: reason!, atMs: now() - began })
  }

  function end (outcome: Outcome): void {
    const open = phases.at(-1)!
    open.durationMs = now() - began - open.startedMs
    open.outcome = outcome
  }

  function tell (inside: readonly string[]): void {
    if (inside.length === 0 && phase.current !== 'cleaning') return
    events.emit({ type: 'waiting', phase: phase.current, elapsedMs: now() - began, remainingMs: self.remaining(), inside })
  }

  /** Every resource that can is asked once to take in no new work, all together, each bounded by its own time. */
  function pause (): void {
    for (const [name, resource] of parts.resources()) {
      if (resource.pause === undefined || asked.get(name) === resource.pause) continue
      asked.set(name, resource.pause)
      const own = resource.timeout ?? timeouts.resources
      const time = deadline?.stage(own, reserve) ?? own
      pausing.push(within(time, () => resource.pause!()).then(settled => {
        if (settled.status === 'fulfilled') return
        const error = settled.status === 'rejected' ? settled.reason : new ShutdownTimeoutError(`The pause of resource '${name}'`, Math.round(time))
        events.emit({ type: 'problem', message: `Resource '${name}' did not pause`, error })
      }))
    }
  }
}

function worst (outcomes: readonly Outcome[]): Outcome {
  return outcomes.includes('failed') ? 'failed' : outcomes.includes('forced') ? 'forced' : 'clean'
}
