/** The times of a shutdown: the defaults of each platform, and how the times fit in the grace period. */
import type { LameDuckDelay, ShutdownOptions, Timeouts } from '../types/index'
import { checkNames, isPlainObject, milliseconds, throwInvalid } from './checks'
import { ShutdownBudgetError } from './errors'
import { longestTimer } from './util/time'

/** The default of `delay.quiet`, in milliseconds. */
const defaultQuiet = 1_000

/** Length of lame-duck, in milliseconds. A fixed length has the same `min` and `max`. */
export type Delay = Required<LameDuckDelay>

/** Defaults that depend on the platform. An option can override each of them. */
export interface PlatformDefaults {
  readonly name: string
  readonly delay: Delay
  readonly gracePeriod: number | null
  /** Whether the environment contains the grace period. Otherwise it is the platform's default. */
  readonly gracePeriodKnown: boolean
  /** What a new connection meets while draining, if the option is not set. @default 'auto' */
  readonly newConnections?: ShutdownOptions['newConnections']
}

/** Returns a lame-duck of a fixed length. */
export function fixedDelay (ms: number): Delay {
  return { min: ms, max: ms, quiet: 0 }
}

/** The name of a platform; `plain` if no platform was detected. */
export type PlatformName = 'test-runner' | 'kubernetes' | 'pm2' | 'cluster' | 'systemd' | 'fastify-cli' | 'plain'

/**
 * Defaults of each platform, in milliseconds. The grace periods are Kubernetes' terminationGracePeriodSeconds, PM2 7's
 * KILL_TIMEOUT (constants.js) and systemd's DefaultTimeoutStopSec. A cluster's primary and a terminal do not send
 * SIGKILL.
 */
export const platformDefaults: Readonly<Record<PlatformName, Pick<PlatformDefaults, 'delay' | 'gracePeriod'>>> = {
  'test-runner': { delay: fixedDelay(0), gracePeriod: null },
  kubernetes: { delay: { min: 5_000, max: 15_000, quiet: defaultQuiet }, gracePeriod: 30_000 },
  pm2: { delay: fixedDelay(1_000), gracePeriod: 1_600 },
  cluster: { delay: fixedDelay(1_000), gracePeriod: null },
  systemd: { delay: { min: 0, max: 2_000, quiet: 500 }, gracePeriod: 90_000 },
  'fastify-cli': { delay: fixedDelay(0), gracePeriod: null },
  plain: { delay: { min: 0, max: 2_000, quiet: 500 }, gracePeriod: null }
}

/** `timeouts.total` on a platform without a grace period, in milliseconds. */
export const defaultTotal = 60_000

/**
 * Returns the `timeouts.total` that fits in a grace period, in milliseconds: the grace period minus `delay`, minus the
 * time for the end of the process. It is at most the default. A result below 1 means that no time is left.
 */
export function totalWithin (delay: number, gracePeriod: number | null): number {
  if (gracePeriod === null) return defaultTotal
  return Math.min(defaultTotal, gracePeriod - delay - exitTimeOf(gracePeriod))
}

/** Returns the time that is left for the end of the process: 5 % of the grace period, at most 1 000 ms. */
function exitTimeOf (gracePeriod: number): number {
  return Math.min(1_000, Math.ceil(gracePeriod / 20))
}

/**
 * Returns the default lame-duck of a platform within a grace period. A range takes at most half of the grace period.
 * Its `max` also leaves `needed` milliseconds for the times that the user has set. A fixed length stays the same.
 */
export function delayWithin (delay: Delay, gracePeriod: number | null, needed: number): Delay {
  if (gracePeriod === null || delay.min === delay.max) return delay
  const half = Math.floor(gracePeriod / 2)
  const min = Math.min(delay.min, half)
  const room = gracePeriod - exitTimeOf(gracePeriod) - needed
  return { min, max: Math.max(min, Math.min(delay.max, half, room)), quiet: delay.quiet }
}

/**
 * Returns the part of the total that is reserved for the resources, in milliseconds, so that a stuck request never uses
 * the time in which the database must close.
 */
export function reserveOf ({ resources, total }: Required<Timeouts>): number {
  return Math.min(resources, total / 2)
}

/** The default of each timeout, in milliseconds. */
export const defaultTimeouts: Required<Timeouts> = {
  requests: 30_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: defaultTotal
}

/** The names of the timeouts, without the total. */
export const timeoutNames = ['requests', 'streams', 'tasks', 'resources'] as const satisfies readonly (keyof Timeouts)[]
type TimeoutName = (typeof timeoutNames)[number]

/** The time between the request to stop and SIGKILL. */
export interface Grace {
  /** In milliseconds; `null` on a platform without one. */
  readonly period: number | null
  /** Whether the option or the environment contains it. Otherwise it is the platform's default. */
  readonly binding: boolean
}

/**
 * Scales the timeouts that the user did not set, so that `delay + total` fits in the grace period. A timeout that the
 * user set is never changed. If the sum does not fit, this is an error, or a warning if the grace period is the
 * platform's default.
 *
 * @throws FST_ERR_SHUTDOWN_BUDGET
 */
export function fitTimeouts (
  given: Timeouts, delay: number, grace: Grace
): { timeouts: Required<Timeouts>, warnings: string[] } {
  const total = given.total ?? chooseTotal(given, delay, grace)
  const scale = given.total === undefined ? total / defaultTotal : 1
  const pick = (name: TimeoutName): number => given[name] ?? Math.max(
    1, Math.min(total, Math.round(defaultTimeouts[name] * scale))
  )
  const timeouts = {
    requests: pick('requests'), streams: pick('streams'), tasks: pick('tasks'), resources: pick('resources'), total
  }

  for (const name of timeoutNames) {
    if (timeouts[name] > total) {
      throw new ShutdownBudgetError(
        `'timeouts.${name}' (${timeouts[name]} ms) does not fit in 'timeouts.total' (${total} ms)`
      )
    }
  }
  if (grace.period === null || delay + total <= grace.period) return { timeouts, warnings: [] }
  const message = `'delay' (${delay} ms) and 'timeouts.total' (${total} ms) make ${delay + total} ms, ` +
    `which does not fit in the grace period of ${grace.period} ms`
  if (grace.binding) throw new ShutdownBudgetError(message)
  return {
    timeouts,
    warnings: [`${message} that is this platform's default; set 'gracePeriod' to the value of your deployment`]
  }
}

/** Checks the option `timeouts`. @throws FST_ERR_SHUTDOWN_OPTION */
export function checkTimeouts (given: Timeouts): void {
  checkNames('timeouts', given, [...timeoutNames, 'total'], 'a timeout')
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined) milliseconds(`timeouts.${name}`, value, 1)
  }
}

/** Checks the option `delay`. @throws FST_ERR_SHUTDOWN_OPTION */
export function checkDelay (given: unknown): Delay {
  if (typeof given === 'number') return fixedDelay(milliseconds('delay', given, 0))
  if (!isPlainObject(given)) {
    return throwInvalid('delay', `a number of milliseconds from 0 to ${longestTimer}, or { min, max, quiet }`, given)
  }
  checkNames('delay', given, ['min', 'max', 'quiet'], 'a field of a delay')
  const { min = 0, max, quiet = defaultQuiet } = given
  milliseconds('delay.min', min, 0)
  milliseconds('delay.max', max, 0)
  milliseconds('delay.quiet', quiet, 0)
  if (min > max) throwInvalid('delay.min', `at most 'delay.max' (${max} ms)`, min)
  return { min, max, quiet }
}

function chooseTotal (given: Timeouts, delay: number, { period, binding }: Grace): number {
  const total = totalWithin(delay, period)
  // A timeout that the user set has precedence over the platform's default grace period.
  if (!binding && total < Math.max(1, ...timeoutNames.map(name => given[name] ?? 0))) return defaultTotal
  if (total < 1) {
    throw new ShutdownBudgetError(
      `'delay' (${delay} ms) leaves no time for the rest of the shutdown in the grace period of ${period} ms`
    )
  }
  return total
}
