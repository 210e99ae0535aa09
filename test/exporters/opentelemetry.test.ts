/** Traces and metrics with the real SDK of OpenTelemetry, and what a real OTLP receiver gets from it. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import * as api from '@opentelemetry/api'
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { NodeSDK, metrics } from '@opentelemetry/sdk-node'
import t, { type Test } from 'tap'
import { opentelemetry, type OpenTelemetryOptions } from '../../lib/exporters/opentelemetry'
import { createEvents } from '../../lib/lifecycle/events'
import type { ExporterSource, Resource, ShutdownEvent, ShutdownReason } from '../../types/index'
import { run, translate, type Child } from '../helpers/children'
import { receiveOtlp, type ReceivedSpan, type Receiver } from '../helpers/otlp'
import { build, serve, serveHeld } from '../helpers/serve'

const timeouts = { requests: 100, streams: 100, tasks: 100, resources: 400, total: 5_000 }

/** A receiver, and an SDK that exports to it. */
async function startSdk (t: Test): Promise<Receiver & { sdk: NodeSDK }> {
  const receiver = await receiveOtlp(t)
  const sdk = new NodeSDK({
    autoDetectResources: false,
    instrumentations: [],
    traceExporter: new OTLPTraceExporter({ url: `${receiver.url}/v1/traces` }),
    metricReaders: [new metrics.PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter({ url: `${receiver.url}/v1/metrics` }) })]
  })
  sdk.start()
  t.teardown(async () => {
    await sdk.shutdown()
    for (const each of [api.trace, api.metrics, api.context, api.propagation]) each.disable()
  })
  return { ...receiver, sdk }
}

const tree = (spans: readonly ReceivedSpan[]): string[] => spans.map(({ parent, name, error }) => `${parent ?? '-'} > ${name}${error === null ? '' : `: ${error}`}`).sort()
const named = (spans: readonly ReceivedSpan[], name: string): ReceivedSpan => spans.find(span => span.name === name)!

/** Starts the fixture, stops it with SIGTERM, and returns what the receiver got. */
async function terminate (t: Test, env: NodeJS.ProcessEnv): Promise<Receiver & { child: Child }> {
  const receiver = await receiveOtlp(t)
  const directory = translate(t.testdir(), ['lib', 'test/exporters/fixtures/traced-service.ts'])
  const child = run(t, { args: [join(directory, 'test/exporters/fixtures/traced-service.js')], env: { OTLP: receiver.url, TAP: '', ...env } })
  await child.said('ready')
  child.kill('SIGTERM')
  t.match(await child.ended, { code: 0, stderr: '' })
  return { ...receiver, child }
}

const children = ['shutdown > onClose hook of app', 'shutdown > phase cleaning', 'shutdown > phase draining', 'shutdown > resource cache', 'shutdown > resource db', 'shutdown > task mail']

t.test('a process that gets SIGTERM exports one trace of the whole shutdown before its SDK closes', async t => {
  const { spans, points, child } = await terminate(t, {})
  const all = spans()
  t.strictSame(tree(all), ['- > shutdown', ...children])
  t.equal(new Set(all.map(({ traceId }) => traceId)).size, 1)
  const { startedAt, durationMs } = JSON.parse(await child.said('report'))
  const root = named(all, 'shutdown')
  t.match(root.attributes, { 'fastify_shutdown.outcome': 'clean', 'fastify_shutdown.reason.kind': 'signal', 'fastify_shutdown.reason.detail': 'SIGTERM' })
  t.ok(Math.abs(root.startedAt - Date.parse(startedAt)) < 25, 'it begins with the shutdown')
  t.ok(root.endedAt - root.startedAt <= durationMs + 1 && root.endedAt - root.startedAt > 90, 'it ends before the SDK closes')
  const [draining, cleaning, db, cache, hook, task] = ['phase draining', 'phase cleaning', 'resource db', 'resource cache', 'onClose hook of app', 'task mail'].map(name => named(all, name)) as [ReceivedSpan, ReceivedSpan, ReceivedSpan, ReceivedSpan, ReceivedSpan, ReceivedSpan]
  const near = (a: number, b: number): boolean => Math.abs(a - b) < 0.01
  t.ok(near(draining.endedAt, cleaning.startedAt))
  t.ok(near(cleaning.endedAt, root.endedAt))
  t.ok(cache.endedAt <= db.startedAt + 0.01 && db.endedAt <= root.endedAt + 0.01)
  for (const [span, least] of [[cache, 28], [db, 38], [hook, 18], [draining, 48]] as const) t.ok(span.endedAt - span.startedAt >= least, span.name)
  t.ok(cache.startedAt >= cleaning.startedAt && hook.startedAt >= cleaning.startedAt - 0.01)
  t.ok(task.startedAt < root.startedAt, 'a task began before the shutdown')
  t.match(db.attributes, { 'fastify_shutdown.resource': 'db', 'fastify_shutdown.outcome': 'closed', 'fastify_shutdown.waited_for': 'cache' })
  t.match(hook.attributes, { 'fastify_shutdown.hook': 'onClose', 'fastify_shutdown.plugin': 'app' })
  t.match(task.attributes, { 'fastify_shutdown.task': 'mail', 'fastify_shutdown.outcome': 'completed' })

  const one = (name: string, attributes: object = {}): any => points().find(point => point.name === name && Object.entries(attributes).every(([key, value]) => point.attributes[key] === value)) // any: each line looks into its own shape
  t.match(one('fastify_shutdown.phase', { 'fastify_shutdown.phase': 'cleaning' }), { kind: 'gauge', value: 1 })
  t.match(one('fastify_shutdown.phase', { 'fastify_shutdown.phase': 'running' }), { value: 0 })
  t.match(one('fastify_shutdown.in_flight', { 'fastify_shutdown.kind': 'request' }), { kind: 'sum', value: 0 })
  for (const name of ['rejected', 'cut', 'aborted']) t.match(one(`fastify_shutdown.requests.${name}`), { kind: 'sum', value: 0, unit: '{request}' })
  t.match(one('fastify_shutdown.resource.duration', { 'fastify_shutdown.resource': 'db' }), { kind: 'histogram', unit: 's', value: 1 })
  for (const phase of ['draining', 'cleaning']) t.match(one('fastify_shutdown.phase.duration', { 'fastify_shutdown.phase': phase }), { value: 1 })
  t.ok(Math.abs(one('fastify_shutdown.duration').sum * 1_000 - (root.endedAt - root.startedAt)) < 1)
})

t.test('without a resource that is last, the spans end with the report, and the exporter flushes the SDK', async t => {
  const { spans, child } = await terminate(t, { LAST: '0' })
  t.strictSame(tree(spans()), ['- > shutdown', ...children])
  const root = named(spans(), 'shutdown')
  const { durationMs } = JSON.parse(await child.said('report'))
  t.ok(Math.abs(root.endedAt - root.startedAt - durationMs) < 0.01)
  t.match(root.attributes, { 'fastify_shutdown.outcome': 'clean', 'process.exit.code': 0 })
})

for (const last of [true, false]) {
  t.test(`a shutdown that fails ${last ? 'before the SDK closes' : 'without a resource that is last'}`, async t => {
    const { sdk, spans } = await startSdk(t)
    const resources: Record<string, Resource> = {
      db: { close () { throw Object.assign(new Error('no connection'), { code: 'ECONNRESET' }) } },
      stuck: { timeout: 50, close: () => new Promise(() => {}), force () {} },
      ...(last ? { telemetry: { client: sdk } } : {}) as Record<string, Resource>
    }
    const { app, report } = await serve(t, { options: { timeouts, resources, exporters: [opentelemetry({ attributes: { service: 'shop' } })] }, routes: app => { app.addHook('preClose', async () => { throw new TypeError('no hook') }) } })
    app.shutdown.on('draining', () => { throw new Error('no listener') })
    void app.shutdown.task('mail', async signal => {
      await new Promise(resolve => { signal.addEventListener('abort', resolve) })
      throw new Error('no mail')
    }).catch(() => {})
    await app.close().catch(() => {})
    const { outcome } = await report
    t.equal(outcome, 'failed')
    const all = spans()
    t.match(named(all, 'shutdown'), { attributes: { service: 'shop', 'fastify_shutdown.outcome': 'failed' }, events: [{ name: 'fastify_shutdown.problem', attributes: { 'fastify_shutdown.step': 'A phase listener threw' } }, { name: 'exception', attributes: { 'exception.message': 'no listener' } }] })
    t.type(named(all, 'shutdown').error, 'string')
    t.equal(named(all, 'shutdown').attributes['process.exit.code'], last ? undefined : 1)
    t.match(named(all, 'resource db'), { error: 'no connection', attributes: { 'error.type': 'ECONNRESET', 'fastify_shutdown.outcome': 'failed', service: 'shop' }, events: [{ name: 'exception', attributes: { 'exception.message': 'no connection' } }] })
    t.match(named(all, 'resource stuck'), { attributes: { 'fastify_shutdown.outcome': 'forced' } })
    t.equal(named(all, 'resource stuck').error, null)
    t.match(named(all, 'preClose hook of app'), { error: 'no hook', attributes: { 'error.type': 'TypeError' } })
    t.match(named(all, 'task mail'), { error: 'no mail', attributes: { 'error.type': 'Error' } })
    t.match(named(all, 'phase cleaning'), { attributes: { 'fastify_shutdown.outcome': 'failed' } })
    t.match(named(all, 'phase draining'), { attributes: { 'fastify_shutdown.outcome': 'failed' } })
  })
}

t.test('a request that is cut is an event, and the outcome is forced', async t => {
  const { sdk, spans } = await startSdk(t)
  const { app, report } = await serveHeld(t, { options: { timeouts, track: 'detail', exporters: [opentelemetry()], resources: { telemetry: { client: sdk } } } })
  await app.close()
  t.equal((await report).outcome, 'forced')
  const root = named(spans(), 'shutdown')
  t.match(root, { error: null, attributes: { 'fastify_shutdown.outcome': 'forced', 'fastify_shutdown.cuts': 1 }, events: [{ name: 'fastify_shutdown.cut', attributes: { 'fastify_shutdown.cut.kind': 'request', 'http.request.method': 'GET', 'http.route': '/hold' } }] })
  t.ok(Number(root.events[0]!.attributes['fastify_shutdown.cut.age_ms']) >= 90)
  t.match(named(spans(), 'phase draining'), { error: null, attributes: { 'fastify_shutdown.outcome': 'forced' } })
})

/** The first event of a shutdown, with the fields that the exporter reads. */
const draining = (reason: ShutdownReason = { kind: 'start', detail: '' }): ShutdownEvent =>
  ({ type: 'phase', phase: 'draining', previous: 'running', reason, atMs: 0 } as Partial<ShutdownEvent> as ShutdownEvent)

/** An exporter that has started, with the events of a shutdown that the test makes up. */
function startAlone (options: OpenTelemetryOptions = {}): { emit: ReturnType<typeof createEvents>['emit'], end: () => Promise<void>, lines: [string, string][] } {
  const events = createEvents(error => { throw error })
  const lines: [string, string][] = []
  const log = { info: (line: string) => { lines.push(['info', line]) }, warn: (line: string) => { lines.push(['warn', line]) } }
  const state = { phase: 'running', reason: null, stats: { rejected: 0, cut: 0, aborted: 0 }, activeRequests: 0, activeStreams: 0, activeWebSockets: 0, activeTasks: 0 }
  const end = opentelemetry(options).start({ state, log, listen: events.listen } as unknown as ExporterSource)
  return { emit: events.emit, end: end as () => Promise<void>, lines }
}

t.test('an uncaught error that begins the shutdown is the error of its span', async t => {
  const { sdk, spans } = await startSdk(t)
  const { emit } = startAlone()
  emit({ type: 'problem', message: 'Uncaught error', error: new RangeError('too far') })
  emit(draining({ kind: 'error', detail: 'too far' }))
  emit({ type: 'last-resources', names: ['telemetry'], atMs: 5 })
  await sdk.shutdown()
  t.match(named(spans(), 'shutdown'), { error: 'too far', attributes: { 'error.type': 'RangeError', 'fastify_shutdown.outcome': 'failed' } })
})

t.test('no span stays open if there is no report, and none begins after the end', async t => {
  const { sdk, spans } = await startSdk(t)
  const { emit, end } = startAlone()
  const phase = draining()
  emit({ type: 'task', result: { name: 'early', outcome: 'completed', startedMs: 0, durationMs: 0 }, error: null })
  emit(phase)
  await end()
  emit(phase)
  await sdk.shutdown()
  t.strictSame(tree(spans()), ['- > shutdown', 'shutdown > phase draining'])
})

t.test('a shutdown with many tasks has at most 1 000 children beside its phases, and no span is lost in the queue', async t => {
  const { sdk, spans } = await startSdk(t)
  const { emit } = startAlone()
  emit(draining())
  for (let index = 0; index < 3_000; index++) emit({ type: 'task', result: { name: `task ${index}`, outcome: 'completed', startedMs: 0, durationMs: 1 }, error: null })
  emit({ type: 'request-cut', what: 'websocket', name: '/chat', ageMs: null })
  emit({ type: 'last-resources', names: ['telemetry'], atMs: 5 })
  await sdk.shutdown()
  t.equal(spans().length, 1_002)
  t.match(named(spans(), 'shutdown'), { attributes: { 'fastify_shutdown.dropped_spans': 2_000 }, events: [{ attributes: { 'fastify_shutdown.cut.kind': 'websocket', 'fastify_shutdown.cut.name': '/chat' } }] })
})

const ready = { type: 'platform', platform: 'plain', delay: 0, gracePeriod: null, timeouts: { ...timeouts }, notes: [], warnings: [] } as const

t.test('the log says why no span is exported', async t => {
  t.test('without an SDK, at level info', async t => {
    const { emit, lines } = startAlone()
    emit(ready)
    t.match(lines, [['info', 'no OpenTelemetry SDK has started']])
  })

  t.test('with an SDK that uses an older copy of the api, at level warn; not with the same one', async t => {
    const { sdk, spans } = await startSdk(t)
    const copy = join(t.testdir(), 'api')
    cpSync(join(dirname(require.resolve('@opentelemetry/api')), '../..'), copy, { recursive: true })
    const version = join(copy, 'build/src/version.js')
    writeFileSync(version, readFileSync(version, 'utf8').replace(/VERSION = '1\.\d+/, "VERSION = '1.99"))
    const second = startAlone({ api: require(copy) as typeof api })
    second.emit(ready)
    second.emit(draining())
    await second.end()
    t.match(second.lines, [['warn', /uses @opentelemetry\/api 1\.\d+\.\d+, and the plugin found a newer copy/]])
    const same = startAlone()
    same.emit(ready)
    t.strictSame(same.lines, [])
    await sdk.shutdown()
    t.strictSame(spans(), [])
  })
})

t.test('two apps of a provider are summed, and attributes keep them apart', async t => {
  const { sdk, points } = await startSdk(t)
  for (const attributes of [{}, {}, { service: 'b' }]) {
    const { app } = await build(t, { options: { exporters: [opentelemetry({ attributes })] } })
    await app.ready()
  }
  await sdk.shutdown()
  const running = points().filter(({ name, attributes }) => name === 'fastify_shutdown.phase' && attributes['fastify_shutdown.phase'] === 'running')
  t.strictSame(running.map(({ attributes, value }) => [attributes.service, value]), [[undefined, 2], ['b', 1]])
})

t.test('an option of the wrong type is an error', async t => {
  for (const [options, message] of [
    [{ apii: api }, /'apii' is not an option/], [{ api: {} }, "Expected 'api' to be the module @opentelemetry/api"],
    [{ attributes: 'x' }, "Expected 'attributes' to be an object"], [{ attributes: { a: 1 } }, "Expected 'attributes.a' to be a string"]
  ] as const) t.throws(() => opentelemetry(options as unknown as OpenTelemetryOptions), { code: 'FST_ERR_SHUTDOWN_OPTION', message })
})
