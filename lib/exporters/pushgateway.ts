/**
 * Pushes metrics to a Pushgateway, because a process that exits is no longer scraped. The API:
 * https://github.com/prometheus/pushgateway#api.
 */
import { redact, toError } from '../errors'
import { checkNames, isPlainObject, throwInvalid } from '../checks'
import { errorOf, within } from '../util/time'

/** A Pushgateway, and the group of metrics that a push replaces. */
export interface Pushgateway {
  /** Base URL of the gateway. It may contain a user name and a password, for basic authentication. */
  readonly url: string
  /** The label `job` of the group. */
  readonly jobName: string
  /**
   * More labels of the group, by name. Each replica needs a value of its own, such as `instance`, because a push
   * replaces the whole group. @default {}
   */
  readonly groupings?: Readonly<Record<string, string>>
}

/** Longest time of a push, in milliseconds. An exporter has 1 000 ms to end. */
const pushTimeout = 900

/** Checks the option. @throws FST_ERR_SHUTDOWN_OPTION */
export function checkPushgateway (given: Pushgateway): void {
  checkNames('pushgateway', given, ['url', 'jobName', 'groupings'], 'a field of `pushgateway`')
  const { url, jobName, groupings = {} } = given
  if (typeof url !== 'string' || !/^https?:/.test(url) || !URL.canParse(url) || !hasCredentials(url)) {
    throwInvalid('pushgateway.url', 'an http or https URL', url)
  }
  if (typeof jobName !== 'string' || jobName === '') throwInvalid('pushgateway.jobName', 'a non-empty string', jobName)
  if (!isPlainObject(groupings)) throwInvalid('pushgateway.groupings', 'an object of name -> value', groupings)
  for (const [name, value] of Object.entries(groupings)) {
    if (name === 'job' || !/^[a-zA-Z_]\w*$/.test(name)) {
      throwInvalid('pushgateway.groupings', "names of labels other than 'job'", name)
    }
    if (typeof value !== 'string') throwInvalid(`pushgateway.groupings.${name}`, 'a string', value)
  }
}

/**
 * Replaces the metrics of the group (PUT).
 *
 * @param body the metrics as text
 * @throws if the gateway does not answer within 900 ms, or answers with another status than 2xx
 */
export async function push (gateway: Pushgateway, contentType: string, body: string): Promise<void> {
  const { url, authorization } = targetOf(gateway)
  const abort = new AbortController()
  const settled = await within(pushTimeout, async () => {
    const response = await fetch(url, {
      method: 'PUT',
      headers: { 'content-type': contentType, ...(authorization === null ? {} : { authorization }) },
      body,
      signal: abort.signal
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`it answered ${response.status}: ${text.trim().slice(0, 200)}`)
  })
  if (settled.status === 'fulfilled') return
  abort.abort() // A request that is late would keep the process alive.
  const error = toError(errorOf(settled, 'The push', pushTimeout))
  // The error of `fetch` is only "fetch failed". Its cause has the reason.
  const reason = error.cause instanceof Error ? error.cause.message : error.message
  throw new Error(`The push to ${redact(gateway.url)} failed: ${redact(reason)}`, { cause: error })
}

/** Returns whether the user name and the password of a URL can be decoded. They may be empty. */
function hasCredentials (url: string): boolean {
  try {
    const { username, password } = new URL(url)
    decodeURIComponent(username + password)
    return true
  } catch {
    return false
  }
}

/** Returns the URL of the group, and the header for its user name and password: `fetch` rejects them in a URL. */
function targetOf (gateway: Pushgateway): { url: string, authorization: string | null } {
  const url = new URL(gateway.url)
  const { username, password } = url
  url.username = url.password = ''
  const labels = [['job', gateway.jobName] as const, ...Object.entries(gateway.groupings ?? {})]
  const path = labels.map(([name, value]) => label(name, value)).join('')
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/metrics${path}`
  if (username === '' && password === '') return { url: url.href, authorization: null }
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')
  return { url: url.href, authorization: `Basic ${credentials}` }
}

/**
 * A value that is empty, has a slash, or is `.` or `..`, cannot be a part of a path: it is sent in base64, as
 * `name@base64`. A URL removes dots also if they are escaped, and the push would replace another group.
 */
function label (name: string, value: string): string {
  if (!/^\.{0,2}$|\//.test(value)) return `/${encodeURIComponent(name)}/${encodeURIComponent(value)}`
  return `/${encodeURIComponent(name)}@base64/${Buffer.from(value).toString('base64url') || '='}`
}
