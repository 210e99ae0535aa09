/** The arguments of `fastify-shutdown drill`. */
import { existsSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { suggest } from '../../util/did-you-mean'
import { UsageError } from '../command'
import type { DrillRequest } from './connection'
import { limits, method, path, readPlan, type Plan } from './plan'

/** The options of a drill. Times are in milliseconds. */
export interface DrillOptions {
  /** The command and its arguments; `null` if a running server is drilled. */
  readonly command: readonly string[] | null
  /** `null`: found by the listening sockets of the process. */
  readonly url: URL | null
  readonly pid: number | null
  readonly pidFile: string | null
  readonly allowedHosts: readonly string[]
  readonly signal: NodeJS.Signals
  /** Longest wait for readiness. */
  readonly readyMs: number
  /** Length of the traffic before the signal. */
  readonly beforeMs: number
  /** Longest time from the signal to the end of the process. */
  readonly graceMs: number
  /** Lost requests that are allowed, of all restarts together. */
  readonly lost: number
  readonly restarts: number
  readonly plan: Required<Plan>
  readonly json: boolean
  readonly html: string | null
  readonly junit: string | null
  readonly markdown: string | null
}

/** Parses the arguments. @throws UsageError */
export function parseArguments (args: readonly string[]): DrillOptions {
  const end = args.indexOf('--')
  const command = end === -1 ? null : args.slice(end + 1)
  const { values, positionals } = parseArgs({
    args: end === -1 ? [...args] : args.slice(0, end),
    allowPositionals: true,
    options: {
      url: { type: 'string' },
      pid: { type: 'string' },
      'pid-file': { type: 'string' },
      ready: { type: 'string' },
      signal: { type: 'string' },
      restarts: { type: 'string' },
      'allow-host': { type: 'string', multiple: true },
      path: { type: 'string', multiple: true },
      method: { type: 'string' },
      body: { type: 'string' },
      rate: { type: 'string' },
      connections: { type: 'string' },
      sse: { type: 'string', multiple: true },
      ws: { type: 'string', multiple: true },
      traffic: { type: 'string' },
      before: { type: 'string' },
      grace: { type: 'string' },
      lost: { type: 'string' },
      json: { type: 'boolean' },
      html: { type: 'string' },
      junit: { type: 'string' },
      markdown: { type: 'string' }
    }
  })
  if (positionals.length > 0) {
    throw new UsageError(`unexpected argument '${positionals[0]}': the command comes behind --`)
  }
  if (command?.length === 0 || command?.[0] === '') throw new UsageError('expected a command behind --')
  const pid = values.pid === undefined ? null : whole('pid', values.pid, 1, 2 ** 31 - 1)
  const pidFile = values['pid-file'] ?? null
  const restarts = whole('restarts', values.restarts ?? '1', 1, 10_000)
  if (command !== null && (pid !== null || pidFile !== null)) {
    throw new UsageError('expected a command, or --pid, but not both')
  }
  if (pid !== null && pidFile !== null) throw new UsageError('expected --pid or --pid-file, but not both')
  if (command === null && pid === null && pidFile === null) {
    throw new UsageError(
      values.url === undefined ? 'expected a command behind --' : '--url needs a command behind --, --pid or --pid-file'
    )
  }
  if (pid !== null && restarts > 1) {
    throw new UsageError('--restarts with a running server needs --pid-file, because each restart has another pid')
  }
  const files = [values.html, values.junit, values.markdown].filter(file => file !== undefined).map(file => resolve(file))
  if (new Set(files).size < files.length) throw new UsageError('expected --html, --junit and --markdown to be different files')
  return {
    command,
    url: values.url === undefined ? null : parseUrl(values.url),
    pid,
    pidFile,
    allowedHosts: values['allow-host'] ?? [],
    signal: parseSignal(values.signal ?? 'SIGTERM'),
    readyMs: seconds('ready', values.ready ?? '30'),
    beforeMs: seconds('before', values.before ?? '2'),
    graceMs: seconds('grace', values.grace ?? '30'),
    lost: whole('lost', values.lost ?? '0', 0, 1e9),
    restarts,
    plan: mergePlan(values.traffic === undefined ? null : readPlan(values.traffic), values),
    json: values.json ?? false,
    html: target('html', values.html),
    junit: target('junit', values.junit),
    markdown: target('markdown', values.markdown)
  }
}

/** The options of the command line win over the traffic file. */
function mergePlan (file: Plan | null, values: {
  readonly path?: string[],
  readonly method?: string,
  readonly body?: string,
  readonly sse?: string[]
  readonly ws?: string[],
  readonly rate?: string,
  readonly connections?: string
}): Required<Plan> {
  const isRequest = values.path !== undefined || values.method !== undefined || values.body !== undefined
  return {
    requests: isRequest
      ? (values.path ?? ['/']).map(
          given => parseRequest(given, values.method, values.body)
        )
      : file?.requests ?? [],
    sse: values.sse?.map(given => checked(() => path('--sse', given))) ?? file?.sse ?? [],
    ws: values.ws?.map(given => checked(() => path('--ws', given))) ?? file?.ws ?? [],
    rate: values.rate === undefined ? file?.rate ?? 200 : whole('rate', values.rate, ...limits.rate),
    connections: values.connections === undefined
      ? file?.connections ?? 8
      : whole(
        'connections', values.connections, ...limits.connections
      )
  }
}

function parseRequest (givenPath: string, givenMethod: string | undefined, body: string | undefined): DrillRequest {
  return {
    method: checked(() => method('--method', givenMethod ?? 'GET')),
    path: checked(() => path('--path', givenPath)),
    ...body === undefined ? {} : { body, headers: { 'content-type': isJson(body) ? 'application/json' : 'text/plain' } }
  }
}

function isJson (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function checked<T> (check: () => T): T {
  try {
    return check()
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function parseUrl (given: string): URL {
  const text = /^[a-z]+:\/\//i.test(given) ? given : `http://${given}`
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new UsageError(`expected --url to be a URL such as http://127.0.0.1:3000, got '${given}'`)
  }
  return new URL(text)
}

function parseSignal (given: string): NodeJS.Signals {
  const name = (
    given.toUpperCase().startsWith('SIG') ? given.toUpperCase() : `SIG${given.toUpperCase()}`
  ) as NodeJS.Signals
  if (name === 'SIGKILL' || name === 'SIGSTOP') throw new UsageError(`no server can handle ${name}`)
  if (!Object.hasOwn(constants.signals, name)) {
    throw new UsageError(`unknown signal '${given}'${suggest(name, Object.keys(constants.signals))}`)
  }
  return name
}

function seconds (name: string, given: string): number {
  const value = Number(given)
  if (!/^\d+(\.\d+)?$/.test(given) || value < 0.1 || value > 86_400) {
    throw new UsageError(`expected --${name} to be seconds from 0.1 to 86400, got '${given}'`)
  }
  return value * 1_000
}

function whole (name: string, given: string, least: number, most: number): number {
  if (!/^\d+$/.test(given) || Number(given) < least || Number(given) > most) {
    throw new UsageError(`expected --${name} to be a whole number from ${least} to ${most}, got '${given}'`)
  }
  return Number(given)
}

/** Checks before the drill that a file can be written after it. */
function target (name: string, file: string | undefined): string | null {
  if (file === undefined) return null
  if (file === '' || !existsSync(dirname(file))) throw new UsageError(`--${name}: there is no directory for '${file}'`)
  if (existsSync(file) && statSync(file).isDirectory()) throw new UsageError(`--${name}: '${file}' is a directory`)
  return file
}
