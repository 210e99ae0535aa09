/**
 * Checks the options and fills in the defaults. Each error names the option, the expected value and the received value.
 * The platform is a parameter, because this file does not read the environment.
 */
import type {
  LameDuckDelay, Probes, ResourceInput, ShutdownOptions, ShutdownSignal, ShutdownState, Timeouts, Track
} from '../types/index'
import { ShutdownBudgetError, ShutdownOptionError, received } from './errors'
import { suggest } from './util/did-you-mean'
import { longestTimer } from './util/time'

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
  readonly newConnections?: Settings['newConnections']
}

/** The default of `delay.quiet`, in milliseconds. */
const defaultQuiet = 1_000

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

/** The options with every default filled in. */
export interface Settings {
  readonly platform: string
  readonly signals: readonly ShutdownSignal[] | false
  readonly uncaughtErrors: boolean
  readonly exit: boolean
  readonly delay: Delay
  /** `refitTimeouts` changes them at the end of lame-duck. */
  readonly timeouts: Required<Timeouts>
  /** Scales the timeouts again for a lame-duck of this length, in milliseconds. A time that the user set is kept. */
  readonly refitTimeouts: (lameDuck: number) => void
  /** The names of the timeouts that the user has set. */
  readonly givenTimeouts: ReadonlySet<keyof Timeouts>
  readonly gracePeriod: number | null
  readonly retryAfter: (state: ShutdownState) => number
  readonly newConnections: 'auto' | 'answer' | 'refuse'
  readonly errorResponseBuilder: ShutdownOptions['errorResponseBuilder']
  readonly categories: ReadonlyMap<string, number>
  readonly categorize: ShutdownOptions['categorize']
  readonly track: Track
  readonly probes: false | Required<Omit<Probes, 'checks'>> & { readonly checks: Probes['checks'] }
  readonly exporters: NonNullable<ShutdownOptions['exporters']>
  /** Not checked here: the registry checks each resource. */
  readonly resources: Readonly<Record<string, ResourceInput>>
  readonly webSocketMessage: string | Buffer | undefined
  readonly onReport: ShutdownOptions['onReport']
  /** Problems that the log reports as warnings at the start. */
  readonly warnings: readonly string[]
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

/** The signals that can begin a shutdown. */
const signalNames: readonly ShutdownSignal[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']
/** The default of each timeout, in milliseconds. */
export const defaultTimeouts: Required<Timeouts> = {
  requests: 30_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: defaultTotal
}
/** The default of `retryAfter`, in seconds. */
export const defaultRetryAfter = 10

const timeoutNames = ['requests', 'streams', 'tasks', 'resources'] as const satisfies readonly (keyof Timeouts)[]
type TimeoutName = (typeof timeoutNames)[number]

const names = [
  'signals', 'uncaughtErrors', 'delay', 'timeouts', 'gracePeriod', 'retryAfter', 'newConnections',
  'errorResponseBuilder', 'categories', 'categorize', 'track', 'probes', 'exporters', 'resources',
  'webSocketMessage', 'exit', 'onReport'
] as const satisfies readonly (keyof ShutdownOptions)[]

/** Name before version 1.0 -> name now. */
type Renamed = Readonly<Record<string, string>>

const renamedOptions: Renamed = {
  errors: 'uncaughtErrors', refuse: 'newConnections', rejection: 'errorResponseBuilder'
}
const renamedProbes: Renamed = { live: 'liveness', ready: 'readiness' }

/** Options that Fastify accepts for every plugin. */
const foreign = ['prefix', 'logLevel', 'logSerializers']

/**
 * Checks the options and fills in the defaults. An option that is `undefined` has its default; `null` is a wrong value.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_BUDGET
 */
export function resolveOptions (given: ShutdownOptions, platform: PlatformDefaults): Settings {
  checkNames('options', given, [...names, ...foreign], 'an option', renamedOptions)
  const {
    timeouts = {}, gracePeriod, retryAfter = defaultRetryAfter, newConnections = platform.newConnections ?? 'auto',
    track = 'count', categories = {}, probes = false, exporters = [], resources = {}
  } = given
  if (gracePeriod !== undefined) milliseconds('gracePeriod', gracePeriod, 1)
  const grace = gracePeriod === undefined
    ? { period: platform.gracePeriod, binding: platform.gracePeriodKnown }
    : { period: gracePeriod, binding: true }
  checkTimeouts(timeouts)
  const needed = Math.max(0, ...Object.values(timeouts).map(time => time ?? 0))
  const delay = given.delay === undefined ? delayWithin(platform.delay, grace.period, needed) : checkDelay(given.delay)
  const fitted = fitTimeouts(timeouts, delay.max, grace)
  // A test runner decides itself when its process ends, and must see every uncaught error.
  const signals = checkSignals(given.signals, platform.name === 'test-runner' ? false : ['SIGTERM', 'SIGINT'])
  const times = checkCategories(categories)
  return {
    platform: platform.name,
    signals,
    uncaughtErrors: checkBoolean('uncaughtErrors', given.uncaughtErrors, signals !== false),
    exit: checkBoolean('exit', given.exit, signals !== false),
    delay,
    timeouts: fitted.timeouts,
    refitTimeouts (lameDuck) { Object.assign(fitted.timeouts, fitTimeouts(timeouts, lameDuck, grace).timeouts) },
    givenTimeouts: new Set([...timeoutNames, 'total' as const].filter(name => timeouts[name] !== undefined)),
    gracePeriod: grace.period,
    retryAfter: checkRetryAfter(retryAfter),
    newConnections: checkNewConnections(newConnections),
    errorResponseBuilder: checkFunction('errorResponseBuilder', given.errorResponseBuilder),
    categories: times,
    categorize: checkFunction('categorize', given.categorize),
    track: checkTrack(track, times),
    probes: checkProbes(probes),
    exporters: checkExporters(exporters),
    resources: isPlainObject(resources)
      ? resources
      : throwInvalid('resources', 'an object of name -> resource', resources),
    webSocketMessage: checkMessage(given.webSocketMessage),
    onReport: checkFunction('onReport', given.onReport),
    warnings: fitted.warnings
  }
}

interface Grace {
  /** In milliseconds; `null` on a platform without one. */
  readonly period: number | null
  /** Whether the option or the environment contains it. Otherwise it is the platform's default. */
  readonly binding: boolean
}

/**
 * Scales the timeouts that the user did not set, so that `delay + total` fits in the grace period. A timeout that the
 * user set is never changed. If the sum does not fit, this is an error, or a warning if the grace period is the
 * platform's default.
 */
function fitTimeouts (
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

function checkTimeouts (given: Timeouts): void {
  checkNames('timeouts', given, [...timeoutNames, 'total'], 'a timeout')
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined) milliseconds(`timeouts.${name}`, value, 1)
  }
}

function checkDelay (given: unknown): Delay {
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

/**
 * Returns whether the value is valid for a Retry-After header: a non-negative integer (RFC 9110, section 10.2.3). No
 * other value may reach the header, because a string could contain CR or LF.
 */
export function isRetryAfter (value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function checkRetryAfter (given: NonNullable<ShutdownOptions['retryAfter']>): (state: ShutdownState) => number {
  if (typeof given === 'function') return given
  if (typeof given === 'number' && isRetryAfter(given)) return () => given
  if (Array.isArray(given)) {
    const [min, max] = given as readonly unknown[]
    if (given.length === 2 && isRetryAfter(min) && isRetryAfter(max) && min <= max) {
      return () => min + Math.floor(Math.random() * (max - min + 1))
    }
  }
  return throwInvalid(
    'retryAfter', 'a whole number of seconds >= 0, a range [min, max], or a function that returns a number', given
  )
}

function checkSignals (
  given: ShutdownOptions['signals'], otherwise: Settings['signals']
): readonly ShutdownSignal[] | false {
  if (given === undefined) return otherwise
  if (given === false) return false
  if (!Array.isArray(given) || given.length === 0) {
    return throwInvalid('signals', `false or a list of signals out of ${signalNames.join(', ')}`, given)
  }
  for (const signal of given as readonly unknown[]) {
    if (!signalNames.includes(signal as ShutdownSignal)) {
      throwInvalid('signals', `signals out of ${signalNames.join(', ')}`, signal)
    }
  }
  return [...new Set(given as readonly ShutdownSignal[])]
}

function checkCategories (given: Readonly<Record<string, number>>): ReadonlyMap<string, number> {
  if (!isPlainObject(given)) return throwInvalid('categories', 'an object of name -> milliseconds', given)
  return new Map(Object.entries(given).map(([name, time]) => [name, milliseconds(`categories.${name}`, time, 0)]))
}

/** Categories need `track: 'category'`. It replaces `count` if there are categories. */
function checkTrack (given: Track, categories: Settings['categories']): Track {
  oneOf('track', given, ['count', 'category', 'detail'])
  return given === 'count' && categories.size > 0 ? 'category' : given
}

function checkProbes (given: boolean | Probes): Settings['probes'] {
  if (given === false) return false
  const probes: Probes = given === true ? {} : given
  if (!isPlainObject(probes)) return throwInvalid('probes', 'a boolean or an object', given)
  checkNames('probes', probes, ['liveness', 'readiness', 'startup', 'checks'], 'a probe', renamedProbes)
  const path = (name: 'liveness' | 'readiness' | 'startup', standard: string): string | false => {
    const { [name]: value = standard } = probes
    if (value !== false && (typeof value !== 'string' || !value.startsWith('/'))) {
      throwInvalid(`probes.${name}`, "a path that begins with '/', or false", value)
    }
    return value
  }
  const checks = probes.checks
  if (checks !== undefined) {
    if (!isPlainObject(checks)) throwInvalid('probes.checks', 'an object of name -> function', checks)
    for (const [name, check] of Object.entries(checks)) {
      if (typeof check === 'function') continue
      if (!isPlainObject(check) || typeof check.check !== 'function') {
        throwInvalid(
        `probes.checks.${name}`, 'a function, or { check, timeout }', check
        )
      } else if (check.timeout !== undefined) milliseconds(`probes.checks.${name}.timeout`, check.timeout, 1)
    }
  }
  return {
    liveness: path('liveness', '/health/live'),
    readiness: path('readiness', '/health/ready'),
    startup: path('startup', '/health/startup'),
    checks
  }
}

function checkExporters (given: NonNullable<ShutdownOptions['exporters']>): NonNullable<ShutdownOptions['exporters']> {
  if (!Array.isArray(given)) return throwInvalid('exporters', 'a list of exporters', given)
  for (const exporter of given) {
    if (typeof exporter?.start !== 'function') throwInvalid('exporters', 'objects with a function `start`', exporter)
  }
  return given
}

function checkMessage (given: ShutdownOptions['webSocketMessage']): string | Buffer | undefined {
  if (given === undefined || given === false) return undefined
  if (given === true) return '{"type":"close","reason":"server_shutdown"}'
  if (typeof given === 'string' || Buffer.isBuffer(given)) return given
  return throwInvalid('webSocketMessage', 'a boolean, a string or a Buffer', given)
}

function checkNewConnections (given: Settings['newConnections']): Settings['newConnections'] {
  if ((given as string) === 'close') {
    throw new ShutdownOptionError("'newConnections: 'close'' was renamed to 'newConnections: 'refuse''")
  }
  return oneOf('newConnections', given, ['auto', 'answer', 'refuse'])
}

function checkBoolean (name: string, given: unknown, otherwise: boolean): boolean {
  if (given === undefined) return otherwise
  return typeof given === 'boolean' ? given : throwInvalid(name, 'a boolean', given)
}

function checkFunction<T> (name: string, given: T): T {
  return given === undefined || typeof given === 'function' ? given : throwInvalid(name, 'a function', given)
}

function oneOf<T extends string> (name: string, given: T, allowed: readonly T[]): T {
  return allowed.includes(given)
    ? given
    : throwInvalid(name, `one of ${allowed.map(word => `'${word}'`).join(', ')}`, given)
}

/** Checks a time. @returns the time in milliseconds @throws FST_ERR_SHUTDOWN_OPTION */
export function milliseconds (name: string, given: unknown, least: number): number {
  if (typeof given === 'number' && given >= least && given <= longestTimer) return given
  return throwInvalid(name, `a number of milliseconds from ${least} to ${longestTimer}`, given)
}

/**
 * Checks that `given` is an object with no other fields.
 *
 * @param option the name of the object in the message
 * @param kind what a field is, as `an option`
 * @throws FST_ERR_SHUTDOWN_OPTION with "did you mean"
 */
export function checkNames (
  option: string, given: object, allowed: readonly string[], kind: string, renamed: Renamed = {}
): void {
  if (!isPlainObject(given)) throwInvalid(option, 'an object', given)
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(renamed, name)) throw new ShutdownOptionError(`'${name}' was renamed to '${renamed[name]}'`)
    if (!allowed.includes(name)) throw new ShutdownOptionError(`'${name}' is not ${kind}${suggest(name, allowed)}`)
  }
}

/** Returns whether a value is an object and not a list. */
export function isPlainObject (value: unknown): value is Record<string, any> { // any: the caller narrows each of its values
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** @throws FST_ERR_SHUTDOWN_OPTION with expected and received */
export function throwInvalid (name: string, expected: string, value: unknown): never {
  throw new ShutdownOptionError(`Expected '${name}' to be ${expected}, got ${received(value)}`)
}
