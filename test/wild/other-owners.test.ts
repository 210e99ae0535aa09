/**
 * Other owners of the process: code that listens to the same signals and errors gets the time to finish. Each case is a
 * process of its own, with plain JavaScript as people write it.
 */
import { createServer, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'

const directory = translate(t.testdir(), ['lib'])

/** Runs a script with an app that listens. `sleep` and `say` are there for it. */
async function start (t: Test, name: string, code: string, options = '{}'): Promise<Child> {
  const file = join(directory, `${name.replace(/\W+/g, '-')}.js`)
  writeFileSync(file, `
    const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })
    const say = line => process.stdout.write(line + '\\n')
    const app = require('fastify')()
    app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
      resources: { database: { close: async () => { await sleep(20); say('database closed') } } },
      onReport: ({ outcome, exitCode, errors }) => say('report ' + outcome + ' ' + exitCode + ' ' + errors.map(error => error.message).join('; ')),
      ...${options}
    })
    app.get('/', async () => 'hello')
    process.on('exit', code => say('exit ' + code))
    ${code}
    app.listen({ port: 0, host: '127.0.0.1' }).then(() => say('ready'))
  `)
  const child = run(t, { args: [file], cwd: directory })
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
