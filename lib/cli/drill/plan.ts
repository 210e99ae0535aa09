/** What the clients of a drill send: from the options, from a file, or from the server's OpenAPI document. */
import { readFileSync } from 'node:fs'
import { suggest } from '../../util/did-you-mean'
import { CannotRunError } from './cannot-run'
import type { DrillRequest } from './connection'

/** The traffic of a drill. */
export interface Plan {
  /** Sent in turn. Empty: chosen by the server's OpenAPI document, else `GET /`. */
  readonly requests: readonly DrillRequest[]
  /** Paths of event streams. */
  readonly sse: readonly string[]
  /** Paths of WebSockets. */
  readonly ws: readonly string[]
  /** Requests per second. @default 200 */
  readonly rate?: number
  /** Keep-alive connections, and the most requests in flight on one-shot connections. @default 8 */
  readonly connections?: number
}

/** The limits of numbers in a plan. */
export const limits = { rate: [1, 5_000], connections: [1, 1_000] } as const

type Json = Readonly<Record<string, unknown>>

/** Reads a traffic file. @throws CannotRunError, which names the file and the wrong member */
export function readPlan (file: string): Plan {
  let text
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new CannotRunError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`)
  }
  try {
    return parsePlan(JSON.parse(text))
  } catch (error) {
    throw new CannotRunError(`${file}: ${(error as Error).message.replaceAll('\n', ' ')}`)
  }
}

/** Checks the content of a traffic file. @throws Error with what was expected and received */
export function parsePlan (value: unknown): Plan {
  const plan = object('the file', value, ['requests', 'sse', 'ws', 'rate', 'connections'])
  return {
    requests: list('requests', plan.requests).flatMap((value, index) => parseRequest(`requests[${index}]`, value)),
    sse: list('sse', plan.sse).map((value, index) => path(`sse[${index}]`, value)),
    ws: list('ws', plan.ws).map((value, index) => path(`ws[${index}]`, value)),
    ...plan.rate === undefined ? {} : { rate: number('rate', plan.rate, limits.rate) },
    ...plan.connections === undefined ? {} : { connections: number('connections', plan.connections, limits.connections) }
  }
}

/** Parses a request. It is repeated by its `weight`. */
function parseRequest (name: string, value: unknown): DrillRequest[] {
  const request = object(name, value, ['method', 'path', 'headers', 'body', 'weight'])
  const headers = object(`${name}.headers`, request.headers ?? {})
  const { body } = request
  const hasType = Object.keys(headers).some(header => header.toLowerCase() === 'content-type')
  const parsed: DrillRequest = {
    method: method(`${name}.method`, request.method ?? 'GET'),
    path: path(`${name}.path`, request.path),
    headers: {
      ...body === undefined || typeof body === 'string' || hasType ? {} : { 'content-type': 'application/json' },
      ...Object.fromEntries(
        Object.entries(headers).map(([header, value]) => [header, headerValue(`${name}.headers`, header, value)])
      )
    },
    ...body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
  }
  return Array<DrillRequest>(number(`${name}.weight`, request.weight ?? 1, [1, 100])).fill(parsed)
}

/** Checks a method. */
export function method (name: string, value: unknown): string {
  if (typeof value === 'string' && /^[A-Za-z]+$/.test(value) && !/^connect$/i.test(value)) return value.toUpperCase()
  return wrong(name, 'a method such as GET', value)
}

/** Checks a path with its query. */
export function path (name: string, value: unknown): string {
  return typeof value === 'string' && /^\/[!-~]*$/.test(value)
    ? value
    : wrong(
      name, "a path that begins with '/'", value
    )
}

function headerValue (name: string, header: string, value: unknown): string {
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(header)) wrong(name, 'names of headers', header)
  return typeof value === 'string' && /^[\t -~]*$/.test(value) ? value : wrong(`${name}.${header}`, 'text', value)
}

function number (name: string, value: unknown, [least, most]: readonly [number, number]): number {
  return Number.isInteger(value) && value as number >= least && value as number <= most
    ? value as number
    : wrong(name, `a whole number from ${least} to ${most}`, value)
}

function list (name: string, value: unknown = []): readonly unknown[] {
  return Array.isArray(value) ? value : wrong(name, 'an array', value)
}

function object (name: string, value: unknown, known?: readonly string[]): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong(name, 'an object', value)
  for (const key of Object.keys(value)) {
    if (known !== undefined && !known.includes(key)) throw new Error(`${name} has an unknown member '${key}'${suggest(key, known)}`)
  }
  return value as Json
}

function wrong (name: string, expected: string, value: unknown): never {
  throw new Error(`expected ${name} to be ${expected}, got ${JSON.stringify(value)}`)
}
