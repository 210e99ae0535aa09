/** Signals, exits, the log, and a process without Fastify. */
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'
import { connect, fetchOnce, get } from '../helpers/client'

const directory = translate(t.testdir(), ['lib', 'test/attach/fixtures/plain-service.ts'])
const script = join(directory, 'test/attach/fixtures/plain-service.js')

async function serve (t: Test, options: object = {}, env: Record<string, string> = {}): Promise<Child & { readonly port: number }> {
  const child = run(t, { args: [script], env: { FORBIDDEN: 'fastify', OPTIONS: JSON.stringify(options), ...env } })
  return { ...child, port: Number(await child.said('port ')) }
}

t.test('SIGTERM completes a request in flight, closes the resources and exits with 0, without Fastify', async t => {
  const service = await serve(t)
  t.match(await fetchOnce(service.port, get('/require')), { body: "'fastify' is not installed" })
  const client = await connect(service.port)
  client.send(get('/slow'))
  const { process: { pid } } = service
  // The answer to a later request shows that the first one has arrived.
  await fetchOnce(service.port, get('/require'))
  process.kill(pid!, 'SIGTERM')
  t.match(await client.answer(), { status: 200, headers: { connection: 'close' }, body: 'slow' })
  t.match(await service.ended, { code: 0, signal: null, stderr: '' })
  t.strictSame(JSON.parse(await service.said('report ')), { reason: { kind: 'signal', detail: 'SIGTERM' }, outcome: 'clean', exitCode: 0, completed: 1 })
  t.strictSame([service.count('database closes'), service.count('exit 0')], [1, 1])
})

t.test('an uncaught error is logged, and the process exits with 1', async t => {
  const service = await serve(t, { delay: 0 })
  const client = await connect(service.port)
  client.send(get('/crash'))
  t.equal((await service.ended).code, 1)
  t.match(JSON.parse(await service.said('report ')), { reason: { kind: 'error', detail: 'crash' }, outcome: 'failed', exitCode: 1 })
  const lines = service.lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line))
  t.match(lines.find(({ level }) => level === 50), { msg: 'shutdown: Uncaught error', err: { type: 'Error', message: 'crash', stack: /plain-service/ } })
})

t.test('without a log option, the log is lines of JSON on stdout, from level info', async t => {
  const service = await serve(t, { delay: 0 })
  service.kill('SIGTERM')
  await service.ended
  const lines = service.lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line))
  t.match(lines.map(({ msg }) => msg), [
    'graceful shutdown is ready (plain)', 'shutdown: draining', 'shutdown: cleaning', 'shutdown: shutdown', /^shutdown: clean in/
  ])
  for (const line of lines) t.match(line, { level: 30, time: Number, pid: service.process.pid, hostname: String })
})

t.test('without a log option, a closed stdout does not end the process', async t => {
  const service = await serve(t, { delay: 0 }, { QUIET: '1' })
  const { stdout, pid } = service.process
  stdout!.destroy()
  await once(stdout!, 'close')
  process.kill(pid!, 'SIGTERM')
  t.match(await service.ended, { code: 0, signal: null, stderr: '' })
})

t.test('log: false writes nothing', async t => {
  const service = await serve(t, { log: false })
  service.kill('SIGTERM')
  t.equal((await service.ended).code, 0)
  t.strictSame(service.lines.filter(line => line.startsWith('{')), [])
})

t.test('with exit: false, the process ends by itself', async t => {
  const service = await serve(t, { exit: false, delay: 0 })
  service.kill('SIGTERM')
  t.match(await service.ended, { code: 0, signal: null })
  t.equal(service.count('report'), 1)
})
