/**
 * Checks the options and fills in the defaults. The platform is a parameter, because this file does not read the
 * environment.
 */
import type {
  Probes, ResourceInput, ShutdownOptions, ShutdownSignal, ShutdownState, Timeouts, Track
} from '../types/index'
import { checkFunction, checkNames, isPlainObject, milliseconds, oneOf, throwInvalid, type Renamed } from './checks'
import { ShutdownOptionError } from './errors'
import {
  checkDelay, checkTimeouts, delayWithin, fitTimeouts, timeoutNames, type Delay, type PlatformDefaults
} from './times'

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

/** The signals that can begin a shutdown. */
const signalNames: readonly ShutdownSignal[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']
/** The default of `retryAfter`, in seconds. */
export const defaultRetryAfter = 10

const names = [
  'signals', 'uncaughtErrors', 'delay', 'timeouts', 'gracePeriod', 'retryAfter', 'newConnections',
  'errorResponseBuilder', 'categories', 'categorize', 'track', 'probes', 'exporters', 'resources',
  'webSocketMessage', 'exit', 'onReport'
] as const satisfies readonly (keyof ShutdownOptions)[]

/** The names of the options. */
export const optionNames: readonly string[] = names

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
