/** The arguments of `fastify-shutdown drill`. */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { UsageError } from '../command'
import { checked, isJson, parseSeconds, parseSignal, parseTarget, parseUrl, parseWhole } from './argument-values'
import type { DrillRequest } from './exchange'
import type { DrillOptions } from './options'
import { limits, method, path, readPlan, type Plan } from './plan'

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
    throw new UsageError(`unexpected argument '${positionals[0]}': the command comes after --`)
  }
  if (command?.length === 0 || command?.[0] === '') throw new UsageError('expected a command after --')
  const pid = values.pid === undefined ? null : parseWhole('pid', values.pid, 1, 2 ** 31 - 1)
  const pidFile = values['pid-file'] ?? null
  const restarts = parseWhole('restarts', values.restarts ?? '1', 1, 10_000)
  if (command !== null && (pid !== null || pidFile !== null)) {
    throw new UsageError('expected a command, or --pid, but not both')
  }
  if (pid !== null && pidFile !== null) throw new UsageError('expected --pid or --pid-file, but not both')
  if (command === null && pid === null && pidFile === null) {
    throw new UsageError(
      values.url === undefined ? 'expected a command after --' : '--url needs a command after --, --pid or --pid-file'
    )
  }
  if (pid !== null && restarts > 1) {
    throw new UsageError('--restarts with a running server needs --pid-file, because each restart has another pid')
  }
  const files = [values.html, values.junit, values.markdown].flatMap(file => file === undefined ? [] : resolve(file))
  if (new Set(files).size < files.length) {
    throw new UsageError('expected --html, --junit and --markdown to be different files')
  }
  return {
    command,
    url: values.url === undefined ? null : parseUrl(values.url),
    pid,
    pidFile,
    allowedHosts: values['allow-host'] ?? [],
    signal: parseSignal(values.signal ?? 'SIGTERM'),
    readyMs: parseSeconds('ready', values.ready ?? '30'),
    beforeMs: parseSeconds('before', values.before ?? '2'),
    graceMs: parseSeconds('grace', values.grace ?? '30'),
    lost: parseWhole('lost', values.lost ?? '0', 0, 1e9),
    restarts,
    plan: mergePlan(values.traffic === undefined ? null : readPlan(values.traffic), values),
    json: values.json ?? false,
    html: parseTarget('html', values.html),
    junit: parseTarget('junit', values.junit),
    markdown: parseTarget('markdown', values.markdown)
  }
}

/** The arguments that override the traffic file. */
interface PlanArguments {
  readonly path?: string[]
  readonly method?: string
  readonly body?: string
  readonly sse?: string[]
  readonly ws?: string[]
  readonly rate?: string
  readonly connections?: string
}

/** Returns the traffic file with the arguments that override it. */
function mergePlan (file: Plan | null, values: PlanArguments): Required<Plan> {
  const isRequest = values.path !== undefined || values.method !== undefined || values.body !== undefined
  return {
    requests: isRequest
      ? (values.path ?? ['/']).map(given => parseRequest(given, values.method, values.body))
      : file?.requests ?? [],
    sse: values.sse?.map(given => checked(() => path('--sse', given))) ?? file?.sse ?? [],
    ws: values.ws?.map(given => checked(() => path('--ws', given))) ?? file?.ws ?? [],
    rate: values.rate === undefined ? file?.rate ?? 200 : parseWhole('rate', values.rate, ...limits.rate),
    connections: values.connections === undefined
      ? file?.connections ?? 8
      : parseWhole('connections', values.connections, ...limits.connections)
  }
}

function parseRequest (givenPath: string, givenMethod: string | undefined, body: string | undefined): DrillRequest {
  return {
    method: checked(() => method('--method', givenMethod ?? 'GET')),
    path: checked(() => path('--path', givenPath)),
    ...body === undefined ? {} : { body, headers: { 'content-type': isJson(body) ? 'application/json' : 'text/plain' } }
  }
}
