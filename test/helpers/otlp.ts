/** A receiver of OTLP over HTTP in JSON (opentelemetry.io/docs/specs/otlp), and the tree of the spans that it gets. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

interface Value { readonly stringValue?: string, readonly intValue?: number | string, readonly doubleValue?: number, readonly boolValue?: boolean }
type KeyValues = ReadonlyArray<{ readonly key: string, readonly value: Value }>
type Values = Readonly<Record<string, string | number | boolean | undefined>>

interface OtlpSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes?: KeyValues
  readonly events?: ReadonlyArray<{ readonly name: string, readonly attributes?: KeyValues }>
  readonly status?: { readonly code?: number, readonly message?: string }
}

export interface ReceivedSpan {
  readonly traceId: string
  readonly name: string
  /** The name of the parent; `null` for a root. */
  readonly parent: string | null
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly endedAt: number
  readonly attributes: Values
  readonly events: ReadonlyArray<{ readonly name: string, readonly attributes: Values }>
  /** Whether the status is an error, and its message. */
  readonly error: string | null
}

export interface ReceivedPoint {
  readonly name: string
  readonly unit: string
  readonly kind: 'gauge' | 'sum' | 'histogram'
  readonly attributes: Values
  /** The value, or the count of a histogram. */
  readonly value: number
  /** The sum of a histogram. */
  readonly sum: number
}

export interface Receiver {
  readonly url: string
  spans(): ReceivedSpan[]
  /** The points of the last export. */
  points(): ReceivedPoint[]
}

const valuesOf = (pairs: KeyValues = []): Values => Object.fromEntries(pairs.map(({ key, value }) => [key, value.stringValue ?? value.boolValue ?? Number(value.intValue ?? value.doubleValue)]))

/** Starts a receiver at `/v1/traces` and `/v1/metrics`. */
export async function receiveOtlp (t: Test): Promise<Receiver> {
  const spans: OtlpSpan[] = []
  let points: ReceivedPoint[] = []
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk)).on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString())
      for (const { scopeSpans } of body.resourceSpans ?? []) for (const scope of scopeSpans) spans.push(...scope.spans)
      if (body.resourceMetrics !== undefined) points = body.resourceMetrics.flatMap((each: any) => each.scopeMetrics).flatMap((each: any) => each.metrics).flatMap(pointsOf) // any: the shape is that of OTLP
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => new Promise(resolve => {
    server.close(resolve)
    server.closeAllConnections()
  }))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    points: () => points,
    spans: () => spans.map(span => ({
      traceId: span.traceId,
      name: span.name,
      parent: spans.find(({ spanId }) => spanId === span.parentSpanId)?.name ?? span.parentSpanId ?? null,
      startedAt: Number(BigInt(span.startTimeUnixNano) / 1_000n) / 1_000,
      endedAt: Number(BigInt(span.endTimeUnixNano) / 1_000n) / 1_000,
      attributes: valuesOf(span.attributes),
      events: (span.events ?? []).map(({ name, attributes }) => ({ name, attributes: valuesOf(attributes) })),
      error: span.status?.code === 2 ? span.status.message ?? '' : null
    }))
  }
}

function pointsOf (metric: any): ReceivedPoint[] { // any: the shape is that of OTLP
  const kind = (['gauge', 'sum', 'histogram'] as const).find(kind => metric[kind] !== undefined)!
  return metric[kind].dataPoints.map((point: any) => ({ // any: as above
    name: metric.name, unit: metric.unit, kind, attributes: valuesOf(point.attributes), value: Number(point.count ?? point.asInt ?? point.asDouble), sum: Number(point.sum)
  }))
}
