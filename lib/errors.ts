/**
 * Every error of the plugin, with its stable code. A message contains the names, the expected value and the received
 * value.
 */
import { types } from 'node:util'
import createError from '@fastify/error'
import type { ShutdownState } from '../types/index'

/** An option has the wrong type, is out of range or is unknown. */
export const ShutdownOptionError = createError<[string]>('FST_ERR_SHUTDOWN_OPTION', '%s', 500, TypeError)
/** The times do not fit in the grace period. */
export const ShutdownBudgetError = createError<[string]>('FST_ERR_SHUTDOWN_BUDGET', '%s', 500, RangeError)
/** An environment variable that should contain the grace period does not contain a valid time. */
export const ShutdownEnvironmentError = createError<[string]>('FST_ERR_SHUTDOWN_ENVIRONMENT', '%s', 500, RangeError)
/** The plugin is registered twice. */
export const ShutdownRegistrationError = createError<[string]>('FST_ERR_SHUTDOWN_REGISTRATION', '%s', 500)
/** The phase does not exist, or cannot follow the current one. */
export const ShutdownPhaseError = createError<[string]>('FST_ERR_SHUTDOWN_PHASE', '%s', 500, RangeError)
/** A value is not a resource, or a name is not valid for a resource. */
export const ShutdownResourceError = createError<[string]>('FST_ERR_SHUTDOWN_RESOURCE', '%s', 500, TypeError)
/** No adapter matches the client in `{ client }`. */
export const ShutdownClientError = createError<[string, string]>(
  'FST_ERR_SHUTDOWN_CLIENT',
  'No adapter matches this client (%s). Known kinds: %s. ' +
  'For any other client, pass a resource: { close () {}, force () {} }',
  500,
  TypeError
)
/** Two resources have the same name. */
export const ShutdownDuplicateError = createError<[string]>(
  'FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE', "Resource '%s' is already registered", 500
)
/** A resource depends on a name that is not registered. */
export const ShutdownDependencyError = createError<[string, string, string]>(
  'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', "Resource '%s' depends on '%s', which is not registered%s", 500
)
/** Resources depend on each other in a circle. */
export const ShutdownCircleError = createError<[string]>(
  'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY', 'Resources depend on each other in a circle: %s', 500
)
/** A package that an exporter uses is not installed. It is an optional peer dependency. */
export const ShutdownPeerError = createError<[string, string, string]>(
  'FST_ERR_SHUTDOWN_PEER', "'fastify-shutdown/%s' needs %s, which is not installed. Run: npm install %s", 500
)
/** A task or a resource was added too late, or `listen()` was called too late. */
export const ShutdownLateError = createError<[string, string]>(
  'FST_ERR_SHUTDOWN_LATE', "'%s' came too late: the server is already in phase '%s'", 500
)
/** The test kit was used wrongly, or a request of a test did not reach its handler. */
export const ShutdownTestError = createError<[string]>('FST_ERR_SHUTDOWN_TEST', '%s', 500)
/**
 * The server drains and rejects the request with 503. The error has no stack trace, because it is always created at the
 * same place.
 */
export const ShutdownDrainingError = createError<[]>(
  'FST_ERR_SHUTDOWN_DRAINING', 'The server is shutting down, please try again', 503, Error, false
)
/**
 * The same error, as the app's error handler receives it. Its properties are getters, so that a log line does not
 * contain the whole state.
 */
export class ShutdownRejectionError extends ShutdownDrainingError {
  readonly #state: ShutdownState
  readonly #retryAfter: number

  constructor (state: ShutdownState, retryAfter: number) {
    super()
    this.#state = state
    this.#retryAfter = retryAfter
  }

  /** The state of the shutdown. */
  get state (): ShutdownState { return this.#state }
  /** The Retry-After header, in whole seconds. */
  get retryAfter (): number { return this.#retryAfter }
}

/** The timeout of a resource, hook, task or exporter has passed. It is also the reason of an aborted signal. */
export const ShutdownTimeoutError = createError<[string, number]>(
  'FST_ERR_SHUTDOWN_TIMEOUT', '%s did not finish in %d ms', 503
)

/** Some resources or hooks did not close. `errors` contains one error for each, with its name. */
export class ShutdownTeardownError extends AggregateError {
  readonly code = 'FST_ERR_SHUTDOWN_TEARDOWN'
  constructor (errors: readonly Error[]) {
    const messages = errors.map(error => error.message).join('; ')
    super(errors, `${errors.length} of the app's resources and hooks did not close: ${messages}`)
    this.name = 'ShutdownTeardownError'
  }
}

/**
 * Turns a thrown value into an Error. Any value can be thrown, also `undefined`, an error of another realm (jest runs
 * each test file in one), and a Proxy that throws at each access. Never throws, and the properties of the result can
 * be read.
 */
export function toError (thrown: unknown): Error {
  try {
    if ((types.isNativeError(thrown) || thrown instanceof Error) && isReadable(thrown)) return thrown
    return new Error(`A value was thrown that is not an Error: ${received(thrown)}`, { cause: thrown })
  } catch {
    return new Error('A value was thrown that cannot be read')
  }
}

/** Returns whether the message is text. Throws if a property that we read is a getter that throws. */
function isReadable (error: NodeJS.ErrnoException): boolean {
  const [message] = [error.message, error.stack, error.name, error.code]
  return typeof message === 'string'
}

/**
 * Describes a value in an error message: its text and its type, in one line. Never throws, also for a revoked Proxy. It
 * leaves out what may be a secret: see `redact`.
 */
export function received (value: unknown): string {
  if (typeof value === 'string') return `'${JSON.stringify(redact(value).slice(0, 60)).slice(1, -1)}' (string)`
  if (typeof value !== 'object' && typeof value !== 'function') return `${String(value)} (${typeof value})`
  try {
    return typeof value === 'function'
      ? `${redact(String(value.name || 'anonymous')).slice(0, 60)} (function)`
      : `${json(value)} (${Array.isArray(value) ? 'array' : value === null ? 'null' : 'object'})`
  } catch {
    return `a value that cannot be read (${typeof value})`
  }
}

function json (value: object | null): string {
  try {
    return (JSON.stringify(value, redactField) ?? String(value)).slice(0, 80)
  } catch {
    return Object.prototype.toString.call(value)
  }
}

/** Names of fields and parameters whose value is a secret. */
const secret = 'passw|passphrase|pwd|secret|token|credential|(?:api|access|account|private|shared)[-_]?key|' +
  '\\b(?:pass|auth|authorization|cookie)\\b'
const secretName = new RegExp(secret, 'i')
const secretPair = new RegExp(
  `((?:${secret})[\\w-]*["']?\\s*[=:]\\s*)("[^"]*"|'[^']*'|(?:Basic |Bearer )?[^\\s&;,})]+)`, 'gi'
)

/** Longest text in which `redact` searches, in characters. An error message shows at most 80 of them. */
const longestText = 2_000

/**
 * Removes passwords from a text that the log may contain: the user information of a URL (`postgres://user:secret@host`)
 * and the values of parameters that are named like a secret (`password=…`). A connection string is a common wrong
 * value.
 */
export function redact (text: string): string {
  return text.slice(0, longestText)
    .replace(/(:\/\/)[^\s"'<>]*@/g, '$1***@')
    .replace(/[^\s"'<>/:@]+:(?!\/\/)[^\s"'<>]*@/g, '***@')
    .replace(secretPair, '$1***')
}

function redactField (name: string, value: unknown): unknown {
  if (secretName.test(name) && value != null) return '***'
  return typeof value === 'string' ? redact(value) : value
}
