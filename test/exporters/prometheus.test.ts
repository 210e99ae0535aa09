/** Metrics for Prometheus, with both clients, a real Pushgateway's HTTP and a real folder. */
import { readFileSync, readdirSync, watch, writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import platformatic from '@platformatic/prom-client'
import prom from 'prom-client'
import t, { type Test } from 'tap'
import { createBoundedNames } from '../../lib/exporters/bounded-names'
import { prometheus, type PrometheusOptions } from '../../lib/exporters/prometheus'
import { phases as exported } from '../../lib/exporters/readings'
import { phases } from '../../lib/lifecycle/phases'
import { run, translate } from '../helpers/children'
import { abort, connect, eventually, get, portOf } from '../helpers/client'
import { lintMetrics, parseMetrics, valueOf } from '../helpers/metric-lint'
import { serve, serveHeld, type Served } from '../helpers/serve'

const timeouts = { requests: 100, streams: 100, tasks: 100, resources: 100, total: 5_000 }
const clients = { 'prom-client': prom, '@platformatic/prom-client': platformatic as unknown as typeof prom }

interface Push {
  readonly method: string
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** A gateway that answers with this status, or never. */
async function gateway (t: Test, answer: number | 'hangs' = 200): Promise<{ url: string, pushes: Push[] }> {
  const pushes: Push[] = []
  const server = http.createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', chunk => { body += chunk }).on('end', () => {
      pushes.push({ method: request.method!, url: request.url!, headers: request.headers, body })
      if (answer !== 'hangs') response.writeHead(answer).end(answer < 400 ? '' : 'no disk')
    })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => new Promise(resolve => {
    server.close(resolve)
    server.closeAllConnections()
  }))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, pushes }
}

interface Line { readonly level: number, readonly msg: string, readonly err?: { readonly message: string } }

/** An app with the exporter. `warnings` has the log lines of level warn and above. */
async function withMetrics (t: Test, options: PrometheusOptions): Promise<Served & { warnings: Line[] }> {
  const warnings: Line[] = []
  const write = (text: string): void => {
    const line = JSON.parse(text) as Line
    if (line.level >= 40) warnings.push(line)
  }
  return { ...await serve(t, { fastify: { logger: { stream: { write } } }, options: { timeouts, exporters: [prometheus(options)], resources: { db: { close () {} } } } }), warnings }
}

t.test('the phases of the metrics are those of the lifecycle', async t => {
  t.strictSame(exported, phases)
})

for (const [name, client] of Object.entries(clients)) {
  t.test(`the metrics of a shutdown, with ${name}`, async t => {
    const registry = new client.Registry()
    const text = async (): Promise<string> => await registry.metrics()
    const { app, report, holder } = await serveHeld(t, {
      options: { timeouts: { ...timeouts, requests: 600 }, exporters: [prometheus({ registry })], resources: { db: { close () {} }, cache: { close () { throw new Error('no') } } } },
      routes: app => { app.get('/left', (_request, reply) => { reply.raw.once('close', () => {}) }) }
    })
    t.equal(valueOf(await text(), 'fastify_shutdown_phase', { phase: 'running' }), 1)
    t.equal(valueOf(await text(), 'fastify_shutdown_phase', { phase: 'draining' }), 0)
    t.equal(valueOf(await text(), 'fastify_shutdown_in_flight', { kind: 'request' }), 1)
    t.equal(valueOf(await text(), 'fastify_shutdown_requests_cut_total'), 0, 'a counter begins at 0')
    const leaver = await connect(app)
    leaver.send(get('/left'))
    await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
    abort(leaver.socket)
    await eventually(() => app.shutdownState.stats.aborted === 1, () => app.shutdownState)
    const closed = app.close().catch(() => {})
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    const late = await connect(app)
    late.send(get('/hold'))
    t.equal((await late.answer()).status, 503)
    t.equal(valueOf(await text(), 'fastify_shutdown_phase', { phase: 'running' }), 0)
    t.equal(valueOf(await text(), 'fastify_shutdown_phase', { phase: 'draining' }), 1)
    await closed
    holder.socket.destroy()
    const { phases, durationMs } = await report
    const last = await text()
    t.strictSame(parseMetrics(last).filter(({ name }) => name.endsWith('_total')).map(({ name, samples }) => [name, samples.map(({ value }) => value)]), [
      ['fastify_shutdown_requests_rejected_total', [1]], ['fastify_shutdown_requests_cut_total', [1]], ['fastify_shutdown_requests_aborted_total', [1]]
    ])
    t.equal(valueOf(last, 'fastify_shutdown_phase', { phase: 'shutdown' }), 1)
    for (const phase of ['draining', 'cleaning'] as const) {
      t.equal(valueOf(last, 'fastify_shutdown_phase_duration_seconds_count', { phase }), 1)
      const seconds = phases.find(each => each.phase === phase)!.durationMs / 1_000
      t.ok(Math.abs(valueOf(last, 'fastify_shutdown_phase_duration_seconds_sum', { phase })! - seconds) < 0.05, phase)
    }
    t.equal(valueOf(last, 'fastify_shutdown_resource_duration_seconds_count', { resource: 'db', outcome: 'closed' }), 1)
    t.equal(valueOf(last, 'fastify_shutdown_resource_duration_seconds_count', { resource: 'cache', outcome: 'failed' }), 1)
    t.equal(valueOf(last, 'fastify_shutdown_duration_seconds_sum', { outcome: 'failed' }), durationMs / 1_000)
    t.strictSame(lintMetrics(last), [])
  })
}

t.test('the lint finds what promtool finds', async t => {
  const bad = '# HELP a_ms \n# TYPE a_ms gauge\na_ms 1\n# HELP requests x\n# TYPE requests counter\nrequests 1\n# HELP a_gauge_total x\n# TYPE a_gauge_total gauge\na_gauge_total{userId="1",le="2"} 1\n# HELP x_milliseconds x\n# TYPE x_milliseconds gauge\n'
  t.strictSame(lintMetrics(bad), [
    'a_ms: no help text', 'a_ms: units are not abbreviated', 'requests: counters have "_total" at their end', 'a_gauge_total: only counters have "_total" at their end',
    'a_gauge_total: only histograms have the label "le"', 'a_gauge_total: a type is in the name', 'a_gauge_total: names are in snake_case', 'x_milliseconds: units are base units'
  ])
})

t.test('two apps may share a registry', async t => {
  t.test('at the same time: their values are summed', async t => {
    const registry = new prom.Registry()
    const [first, second] = [await withMetrics(t, { registry }), await withMetrics(t, { registry })]
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'running' }), 2)
    await first.app.close()
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'running' }), 1)
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'shutdown' }), 1)
    await second.app.close()
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_resource_duration_seconds_count', { resource: 'db', outcome: 'closed' }), 2)
    t.strictSame([...first.warnings, ...second.warnings], [])
  })

  t.test('with labels: their values are separate', async t => {
    const registry = new prom.Registry()
    const { app } = await withMetrics(t, { registry, labels: { service: 'shop', zone: 'a' } })
    await withMetrics(t, { registry, labels: { zone: 'b', service: 'shop' } })
    await app.close()
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'running', service: 'shop', zone: 'a' }), 0)
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'running', service: 'shop', zone: 'b' }), 1)
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_requests_cut_total', { service: 'shop', zone: 'b' }), 0)
    const other = await withMetrics(t, { registry, labels: { team: 'x' } })
    t.match(other.warnings, [{ level: 50, msg: "shutdown: Exporter 'prometheus' did not start", err: { message: /\(service, zone\), got team/ } }])
  })

  t.test('one after the other: a counter never decreases, and the phase is that of the second app', async t => {
    const registry = new prom.Registry()
    const rejectOne = async (): Promise<void> => {
      const { app, release } = await serveHeld(t, { options: { exporters: [prometheus({ registry })] } })
      const closed = app.close()
      await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
      const late = await connect(app)
      late.send(get('/hold'))
      await late.answer()
      release()
      await closed
    }
    await rejectOne()
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_requests_rejected_total'), 1)
    const { app } = await withMetrics(t, { registry })
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_requests_rejected_total'), 1)
    t.strictSame(parseMetrics(await registry.metrics())[0]!.samples.map(({ value }) => value), [1, 0, 0, 0, 0])
    await app.close()
    await rejectOne()
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_requests_rejected_total'), 2)
  })

  t.test('a registry that was cleared gets new metrics', async t => {
    const registry = new prom.Registry()
    await (await withMetrics(t, { registry })).app.close()
    registry.clear()
    await withMetrics(t, { registry })
    t.equal(valueOf(await registry.metrics(), 'fastify_shutdown_phase', { phase: 'running' }), 1)
  })
})

t.test("without a registry, the metrics are in the client's own one", async t => {
  t.teardown(() => prom.register.clear())
  await withMetrics(t, {})
  t.equal(valueOf(await prom.register.metrics(), 'fastify_shutdown_phase', { phase: 'running' }), 1)
})

t.test('the option client replaces the search for the installed client', async t => {
  const client = clients['@platformatic/prom-client']
  t.teardown(() => client.register.clear())
  await withMetrics(t, { client })
  t.equal(valueOf(await client.register.metrics(), 'fastify_shutdown_phase', { phase: 'running' }), 1)
})

t.test('a label has at most 100 names of resources', async t => {
  const nameOf = createBoundedNames()
  const names = Array.from({ length: 200 }, (_, index) => nameOf(`worker ${index}`))
  t.equal(new Set(names).size, 101)
  t.strictSame([names[99], names[100], nameOf('worker 99')], ['worker 99', 'other', 'worker 99'])
})

t.test('an option of the wrong type is an error', async t => {
  const url = 'http://127.0.0.1'
  for (const [options, message] of [
    [{ regisrty: 1 }, /'regisrty' is not an option.*did you mean 'registry'/i],
    [{ registry: {} }, "Expected 'registry' to be a Registry of prom-client"],
    [{ labels: [] }, "Expected 'labels' to be an object"],
    [{ labels: { phase: 'x' } }, "names of labels other than phase, kind, resource, outcome, le, got 'phase'"],
    [{ labels: { a: 1 } }, "Expected 'labels.a' to be a string, got 1"],
    [{ textfile: '/tmp/metrics.txt' }, "Expected 'textfile' to be a path that ends in '.prom'"],
    [{ pushgateway: url }, "Expected 'pushgateway' to be an object"],
    [{ pushgateway: { url: 'gateway:9091', jobName: 'shop' } }, "Expected 'pushgateway.url' to be an http or https URL"],
    [{ pushgateway: { url, jobName: '' } }, "Expected 'pushgateway.jobName' to be a non-empty string"],
    [{ pushgateway: { url, jobName: 'shop', grouping: {} } }, /'grouping' is not a field/],
    [{ pushgateway: { url, jobName: 'shop', groupings: [] } }, "Expected 'pushgateway.groupings' to be an object"],
    [{ pushgateway: { url, jobName: 'shop', groupings: { 'a/b': 'x' } } }, "names of labels other than 'job', got 'a/b'"],
    [{ pushgateway: { url, jobName: 'shop', groupings: { job: 'x' } } }, "names of labels other than 'job', got 'job'"],
    [{ pushgateway: { url: 'http://me:%zz@127.0.0.1', jobName: 'shop' } }, "Expected 'pushgateway.url' to be an http or https URL"],
    [{ labels: { __name__: 'x' } }, /names of labels other than .*, got '__name__'/],
    [{ client: {} }, "Expected 'client' to be the module prom-client"],
    [{ pushgateway: { url, jobName: 'shop', groupings: { a: 1 } } }, "Expected 'pushgateway.groupings.a' to be a string"]
  ] as const) t.throws(() => prometheus(options as unknown as PrometheusOptions), { code: 'FST_ERR_SHUTDOWN_OPTION', message })
})

t.test('a Pushgateway', async t => {
  t.test('gets the metrics of the whole shutdown', async t => {
    const { url, pushes } = await gateway(t)
    const groupings = { instance: 'a b', path: '/srv/app', empty: '' }
    const { app, report, warnings } = await withMetrics(t, { registry: new prom.Registry(), pushgateway: { url: `${url}/gate/`, jobName: 'shop', groupings } })
    await app.close()
    t.match(await report, { outcome: 'clean' })
    t.match(pushes, [{ method: 'PUT', url: '/gate/metrics/job/shop/instance/a%20b/path@base64/L3Nydi9hcHA/empty@base64/=', headers: { 'content-type': /^text\/plain; version=0\.0\.4/ } }])
    t.equal(valueOf(pushes[0]!.body, 'fastify_shutdown_phase', { phase: 'shutdown' }), 1)
    t.equal(valueOf(pushes[0]!.body, 'fastify_shutdown_duration_seconds_count', { outcome: 'clean' }), 1)
    t.strictSame(warnings, [])
  })

  t.test('gets dots as a value, which a URL would remove', async t => {
    const { url, pushes } = await gateway(t)
    const { app } = await withMetrics(t, { registry: new prom.Registry(), pushgateway: { url, jobName: '..', groupings: { a: '.', b: '...' } } })
    await app.close()
    t.match(pushes, [{ url: '/metrics/job@base64/Li4/a@base64/Lg/b/...' }])
  })

  t.test('gets a user name and a password', async t => {
    const { url, pushes } = await gateway(t)
    const { app } = await withMetrics(t, { registry: new prom.Registry(), pushgateway: { url: url.replace('//', '//me:a%40b@'), jobName: 'shop' } })
    await app.close()
    t.match(pushes, [{ url: '/metrics/job/shop', headers: { authorization: `Basic ${Buffer.from('me:a@b').toString('base64')}` } }])
  })

  for (const [title, answer, reason] of [['hangs', 'hangs', 'did not finish in 900 ms'], ['answers 500', 500, 'it answered 500: no disk']] as const) {
    t.test(`that ${title} is logged, and changes neither the outcome nor the time`, async t => {
      const { url } = await gateway(t, answer)
      const { app, report, warnings } = await withMetrics(t, { registry: new prom.Registry(), pushgateway: { url: url.replace('//', '//me:secret@'), jobName: 'shop' } })
      const began = performance.now()
      const { outcome, exitCode } = await app.shutdown.start('test')
      t.ok(performance.now() - began < 3_000)
      t.strictSame([outcome, exitCode, (await report).errors], ['clean', 0, []])
      t.match(warnings, [{ level: 50, msg: "shutdown: Exporter 'prometheus' did not end", err: { message: `The push to ${url.replace('//', '//***@')} failed:` } }])
      t.match(warnings[0]!.err!.message, reason)
    })
  }

  t.test('that refuses the connection is logged with the reason, and the file is still written', async t => {
    const textfile = join(t.testdir(), 'shop.prom')
    const { app: gone } = await serve(t)
    const url = `http://127.0.0.1:${portOf(gone)}`
    await gone.close()
    const { app, warnings } = await withMetrics(t, { registry: new prom.Registry(), textfile, pushgateway: { url, jobName: 'shop' } })
    await app.close()
    t.match(warnings, [{ level: 50, err: { message: /ECONNREFUSED/ } }])
    t.equal(valueOf(readFileSync(textfile, 'utf8'), 'fastify_shutdown_phase', { phase: 'shutdown' }), 1)
  })
})

t.test('a textfile', async t => {
  t.test('is replaced in one step', async t => {
    const folder = t.testdir({ 'shop.prom': 'old' })
    const seen = new Set<string>()
    const watcher = watch(folder, (_event, file) => { seen.add(file!) })
    t.teardown(() => watcher.close())
    const { app, warnings } = await withMetrics(t, { registry: new prom.Registry(), textfile: join(folder, 'shop.prom') })
    await app.close()
    await eventually(() => seen.has('shop.prom') && seen.size === 2, () => [...seen])
    t.strictSame([...seen].filter(file => file.endsWith('.prom')), ['shop.prom'], 'node-exporter does not read the new file before it is complete')
    t.strictSame(readdirSync(folder), ['shop.prom'])
    t.strictSame(lintMetrics(readFileSync(join(folder, 'shop.prom'), 'utf8')), [])
    t.strictSame(warnings, [])
  })

  t.test('in a folder that does not exist is logged, and so is a gateway that fails too', async t => {
    const { url } = await gateway(t, 500)
    const { app, report, warnings } = await withMetrics(t, { registry: new prom.Registry(), textfile: join(t.testdir(), 'none/shop.prom'), pushgateway: { url, jobName: 'shop' } })
    await app.close()
    t.match(await report, { outcome: 'clean' })
    t.match(warnings, [{ level: 50, msg: "shutdown: Exporter 'prometheus' did not end", err: { message: /it answered 500.*; ENOENT/ } }])
  })

  t.test('that cannot be replaced leaves nothing behind', async t => {
    const folder = t.testdir({ 'shop.prom': { file: '' } })
    const { app, warnings } = await withMetrics(t, { registry: new prom.Registry(), textfile: join(folder, 'shop.prom') })
    await app.close()
    t.equal(warnings.length, 1)
    t.strictSame(readdirSync(folder), ['shop.prom'])
  })
})

t.test('a process that gets SIGTERM pushes and writes before it exits', async t => {
  const { url, pushes } = await gateway(t)
  const folder = t.testdir()
  const textfile = join(folder, 'shop.prom')
  writeFileSync(textfile, 'old')
  const directory = translate(join(folder, 'js'), ['lib', 'test/exporters/fixtures/metrics-service.ts'])
  const service = run(t, {
    args: [join(directory, 'test/exporters/fixtures/metrics-service.js')],
    env: { PROMETHEUS: JSON.stringify({ pushgateway: { url, jobName: 'shop' }, textfile }), TAP: '' }
  })
  await service.said('ready')
  service.kill('SIGTERM')
  t.match(await service.ended, { code: 0, stderr: '' })
  t.equal(pushes.length, 1)
  const failing = run(t, { args: service.process.spawnargs.slice(-1), env: { PROMETHEUS: JSON.stringify({ textfile: join(folder, 'none/shop.prom') }), TAP: '' } })
  await failing.said('ready')
  failing.kill('SIGTERM')
  t.equal((await failing.ended).code, 1, 'a file that cannot be written is an error after the report')
  for (const text of [pushes[0]!.body, readFileSync(textfile, 'utf8')]) {
    t.equal(valueOf(text, 'fastify_shutdown_duration_seconds_count', { outcome: 'clean' }), 1)
    t.equal(valueOf(text, 'fastify_shutdown_resource_duration_seconds_count', { resource: 'db', outcome: 'closed' }), 1)
  }
})
