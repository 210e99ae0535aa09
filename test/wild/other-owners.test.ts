/**
 * Other owners of the process: code that listens to the same signals and errors gets the time to finish. Each case is a
 * process of its own, with plain JavaScript as people write it.
 */
import { once } from 'node:events'
import { createServer, get, type IncomingMessage } from 'node:http'
import { writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'

const directory = translate(t.testdir(), ['lib'])

interface Command {
  /** Arguments of Node, before the script. */
  readonly args?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** The options of Fastify, as code. */
  readonly fastify?: string
}

/** Runs a script with an app that listens. `sleep` and `say` are there for it. */
async function start (t: Test, name: string, code: string, options = '{}', { args = [], env = {}, fastify = '' }: Command = {}): Promise<Child> {
  const file = join(directory, `${name.replace(/\W+/g, '-')}.js`)
  writeFileSync(file, `
    const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })
    const say = line => process.stdout.write(line + '\\n')
    const app = require('fastify')(${fastify})
    app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
      resources: { database: { close: async () => { await sleep(20); say('database closed') } } },
      onReport: ({ outcome, exitCode, errors }) => say('report ' + outcome + ' ' + exitCode + ' ' + errors.map(error => error.message).join('; ')),
      ...${options}
    })
    app.get('/', async () => 'hello')
    process.on('exit', code => say('exit ' + code))
    ${code}
    app.listen({ port: 0, host: '127.0.0.1' }).then(() => say('ready ' + app.server.address().port))
  `)
  const child = run(t, { args: [...args, file], cwd: directory, env })
  await child.said('ready')
  return child
}

const cleanups: Record<string, string> = {
  "process.on('SIGTERM') with app.close()": "process.on('SIGTERM', async () => { await app.close(); await sleep(300); say('cleaned') })",
  "process.once('SIGTERM') without app.close()": "process.once('SIGTERM', async () => { await sleep(300); say('cleaned') })",
  'a listener that is added before the plugin is loaded': "process.prependOnceListener('SIGTERM', async () => { await sleep(300); say('cleaned') })",
  'a listener that sends itself the signal again, as NestJS does': `
    const again = async () => { await app.close(); await sleep(300); say('cleaned'); process.removeListener('SIGTERM', again); process.kill(process.pid, 'SIGTERM') }
    process.on('SIGTERM', again)`
}

for (const [name, code] of Object.entries(cleanups)) {
  void t.test(`a cleanup after the report is not interrupted: ${name}`, async t => {
    const child = await start(t, name, code)
    child.kill('SIGTERM')
    const { code: exitCode, signal } = await child.ended
    t.match(child.lines.slice(1, 4), ['database closed', 'report clean 0 ', 'cleaned'])
    if (name.includes('again')) t.equal(signal, 'SIGTERM')
    else t.equal(exitCode, 0)
  })
}

void t.test('another listener of a signal is logged once at start, with what it means', async t => {
  const child = await start(t, 'foreign listener', "process.once('SIGTERM', function cleanUp () {})", '{}', { fastify: "{ logger: { level: 'info' } }" })
  child.kill('SIGTERM')
  t.equal((await child.ended).code, 0)
  const logged = child.lines.filter(line => line.includes('other listeners of'))
  t.equal(logged.length, 1)
  t.match(logged[0], /"level":30.*shutdown: other listeners of SIGTERM: cleanUp. The process ends when they are done/)
})

void t.test("close-with-grace of the app's own code", async t => {
  const code = (delay: number): string => `
    require('close-with-grace')({ delay: ${delay} }, async () => { await app.close(); say('close-with-grace ends') })
    app.get('/slow', async () => { say('slow begins'); await sleep(800); return 'slow' })
  `
  async function stop (t: Test, delay: number): Promise<Child & { readonly answer: Promise<number | undefined> }> {
    const child = await start(t, `close-with-grace ${delay}`, code(delay), '{}', { fastify: "{ logger: { level: 'warn' } }" })
    const answer = new Promise<number | undefined>(resolve => {
      get({ host: '127.0.0.1', port: Number(child.lines.find(line => line.startsWith('ready'))?.slice(6)), path: '/slow', agent: false }, response => resolve(response.resume().statusCode))
        .once('error', () => resolve(undefined))
    })
    await child.said('slow begins')
    child.kill('SIGTERM')
    await child.ended
    return { ...child, answer }
  }

  void t.test('with a delay that is long enough, both close the app, and the exit code is 0', async t => {
    const child = await stop(t, 10_000)
    t.equal(await child.answer, 200)
    t.equal((await child.ended).code, 0)
    t.strictSame([child.count('database closed'), child.count('report clean 0'), child.count('close-with-grace ends')], [1, 1, 1])
  })

  void t.test('with the 500 ms of `fastify eject`, it ends the process, of which the log warns once at start', async t => {
    const child = await stop(t, 500)
    t.equal(await child.answer, undefined)
    t.equal((await child.ended).code, 1)
    const warnings = child.lines.filter(line => line.includes('"level":40'))
    t.equal(warnings.length, 1)
    t.match(warnings[0], /close-with-grace ends the process when its own delay is over.*Remove it/)
  })
})

void t.test('a listener that keeps the process alive has the time of timeouts.resources, then the process exits', async t => {
  const child = await start(t, 'endless', "process.on('SIGTERM', () => { setInterval(() => {}, 1_000) })", '{ timeouts: { resources: 400 } }')
  child.kill('SIGTERM')
  await child.said('report')
  const began = performance.now()
  const { code, at } = await child.ended
  t.equal(code, 0)
  t.ok(at - began > 250 && at - began < 3_000, `${Math.round(at - began)} ms`)
})

void t.test('without other listeners, the process exits at once, also with a running timer', async t => {
  const child = await start(t, 'alone', 'setInterval(() => {}, 1_000)')
  child.kill('SIGTERM')
  await child.said('report')
  const began = performance.now()
  t.equal((await child.ended).code, 0)
  t.ok((await child.ended).at - began < 1_000)
})

void t.test("an 'exit' listener that throws cannot keep the process alive, and is shown on stderr", async t => {
  for (const [how, end] of Object.entries({ signal: "say('x')", 'signal beside another listener': "process.on('SIGTERM', () => {})", start: 'setTimeout(() => { app.shutdown.start() }, 100)' })) {
    const child = await start(t, `exit listener ${how}`, `process.on('exit', () => { throw new Error('_flushSync took too long') }); ${end}`)
    if (how.startsWith('signal')) child.kill('SIGTERM')
    const { code, stderr } = await child.ended
    t.equal(code, 1, how)
    t.match(stderr, '_flushSync took too long', how)
    t.equal(child.count('report clean'), 1, how)
  }
})

void t.test('a crash', async t => {
  void t.test('a crash reporter that needs 300 ms sends its event, and the exit code is 1', async t => {
    for (const event of ['uncaughtException', 'unhandledRejection']) {
      const child = await start(t, event, `
        process.on('${event}', async () => { await sleep(300); say('sent') })
        setTimeout(() => { ${event === 'uncaughtException' ? "throw new Error('boom')" : "Promise.reject(new Error('boom'))"} }, 100)`)
      t.equal((await child.ended).code, 1)
      t.match(child.lines.slice(1), ['database closed', /^report failed 1 Uncaught error: boom/, 'sent', 'exit 1'])
    }
  })

  void t.test('a crash reporter that never ends has 2 s', async t => {
    const child = await start(t, 'endless reporter', `
      process.on('uncaughtException', () => { setInterval(() => {}, 1_000) })
      setTimeout(() => { throw new Error('boom') }, 100)`)
    await child.said('report')
    const began = performance.now()
    const { code, at } = await child.ended
    t.equal(code, 1)
    t.ok(at - began > 1_800 && at - began < 4_000, `${Math.round(at - began)} ms`)
  })

  void t.test('any value that is thrown becomes the reason', async t => {
    for (const [name, value] of Object.entries({ 'null prototype': 'Object.create(null)', symbol: 'Symbol("boom")', nothing: 'undefined', proxy: 'new Proxy({}, { get () { throw new Error("hostile") }, getPrototypeOf () { throw new Error("hostile") } })' })) {
      const child = await start(t, name, `setTimeout(() => { throw ${value} }, 100)`)
      t.equal((await child.ended).code, 1, name)
      t.match(child.lines.slice(1), ['database closed', /^report failed 1 Uncaught error: /, 'exit 1'], name)
    }
  })
})

void t.test('Sentry sends the event of a crash over a network with 30 ms of latency', async t => {
  const events: string[] = []
  const receiver = createServer((req, res) => { void receive(req).then(() => res.end('{}')) })
  async function receive (req: IncomingMessage): Promise<void> {
    let body = ''
    for await (const chunk of req.setEncoding('utf8')) body += String(chunk)
    await new Promise(resolve => { setTimeout(resolve, 30) })
    events.push(body)
  }
  await once(receiver.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => { receiver.close() })
  const { port } = receiver.address() as AddressInfo
  const child = await start(t, 'sentry', `
    require('@sentry/node').init({ dsn: 'http://key@127.0.0.1:${port}/1' })
    setTimeout(() => { throw new Error('boom for sentry') }, 200)`)
  t.equal((await child.ended).code, 1)
  t.ok(events.some(event => event.includes('boom for sentry')), `${events.length} events`)
  t.equal(child.count('report failed'), 1)
})

void t.test('OpenTelemetry', async t => {
  interface Trace { readonly resourceSpans: ReadonlyArray<{ readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<{ readonly kind: number }> }> }> }

  /** Sends seven requests, and SIGTERM when all of them are in flight. @returns the spans of the server that were exported */
  async function stopUnderLoad (t: Test, name: string, code: string, options: string, preload: string): Promise<{ readonly child: Child, readonly spans: number }> {
    let spans = 0
    const receiver = createServer((req, res) => { void receive(req).then(() => res.setHeader('content-type', 'application/json').end('{}')) })
    async function receive (req: IncomingMessage): Promise<void> {
      let body = ''
      for await (const chunk of req.setEncoding('utf8')) body += String(chunk)
      if (req.url !== '/v1/traces') return
      const { resourceSpans } = JSON.parse(body) as Trace
      const all = resourceSpans.flatMap(({ scopeSpans }) => scopeSpans).flatMap(({ spans }) => spans)
      spans += all.filter(({ kind }) => kind === 2).length // SPAN_KIND_SERVER
    }
    await once(receiver.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => { receiver.close().closeAllConnections() })
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_METRICS_EXPORTER: 'none',
      OTEL_LOGS_EXPORTER: 'none',
      OTEL_NODE_RESOURCE_DETECTORS: 'none'
    }
    const slow = "app.get('/slow', async () => { say('slow begins'); await sleep(500); return 'slow' })"
    const child = await start(t, name, code + slow, options, { args: ['--require', preload], env, fastify: "{ logger: { level: 'warn' } }" })
    const port = Number(await child.said('ready'))
    const answers = Array.from({ length: 7 }, () => new Promise(resolve => {
      get({ host: '127.0.0.1', port, path: '/slow', agent: false }, response => { resolve(response.resume().statusCode) })
    }))
    while (child.count('slow begins') < 7) await new Promise(resolve => { setTimeout(resolve, 10) })
    child.kill('SIGTERM')
    t.strictSame(await Promise.all(answers), Array(7).fill(200))
    const { code: exitCode, stderr } = await child.ended
    t.strictSame([exitCode, stderr, child.count('report clean 0')], [0, '', 1])
    return { child, spans }
  }

  void t.test('the zero-code start loses the spans of answers while draining, and the log warns of it with the remedy', async t => {
    const { child, spans } = await stopUnderLoad(t, 'zero code', '', '{}', '@opentelemetry/auto-instrumentations-node/register')
    t.ok(spans < 7, `${spans} spans`)
    const warnings = child.lines.filter(line => line.includes('"level":40'))
    t.equal(warnings.length, 1)
    t.match(warnings[0], /OpenTelemetry's automatic registration stops its SDK at SIGTERM.*\{ client: sdk \}/)
  })

  void t.test('the SDK as a resource exports every span, and the log does not warn', async t => {
    writeFileSync(join(directory, 'tracing.js'), `
      const { NodeSDK } = require('@opentelemetry/sdk-node')
      const { getNodeAutoInstrumentations } = require('@opentelemetry/auto-instrumentations-node')
      const sdk = new NodeSDK({ instrumentations: getNodeAutoInstrumentations() })
      sdk.start()
      module.exports = { sdk }
    `)
    const resources = "{ resources: { database: { close: () => sleep(20) }, tracing: { client: require('./tracing.js').sdk } } }"
    const { child, spans } = await stopUnderLoad(t, 'sdk', '', resources, './tracing.js')
    t.equal(spans, 7)
    t.equal(child.lines.filter(line => line.includes('"level":40')).length, 0)
  })
})
