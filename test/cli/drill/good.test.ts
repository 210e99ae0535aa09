/** Good servers are not blamed, and servers of other libraries are judged by what they do. */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { total } from '../../../lib/cli/drill/classes'
import { clean, drill, drillShortly, failed, fixture } from './helpers'

t.jobs = 3

/** A test that runs beside others. */
const together = { buffered: true }

/**
 * Drills a good server. On a busy machine, a request may meet a connection that closes (RFC 9112, section 9.5), so the
 * drill is repeated if exactly one request was lost. A fault repeats.
 */
async function drillGood (args: readonly string[], command: readonly string[]): ReturnType<typeof drillShortly> {
  const result = await drillShortly(args, command)
  return result.lost === 1 ? await drillShortly(args, command) : result
}

t.test('a service with the plugin passes, with streams and WebSockets, in three restarts', together, async t => {
  const result = await drillGood(['--restarts', '3', '--sse', '/events', '--ws', '/socket'], fixture('good', 'plugin'))
  t.strictSame(result.reasons, [])
  t.equal(result.code, 0)
  t.equal(result.lost, 0)
  t.strictSame(result.streams, { opened: 6, ended: 6, truncated: 0, reset: 0, hung: 0 })
  t.strictSame(result.webSockets, { opened: 6, closed: 6, codes: { 1001: 6 }, dropped: 0, hung: 0 })
  for (const { before, after, process } of result.restarts) {
    t.ok(before.answered > 20 && after.answered > 0 && after.refused > 0)
    t.match(process, { ended: true, exitCode: 0, signal: null, orphans: [], openListeners: [] })
    t.ok(process.phases.serving! < process.phases.total! && process.phases.draining! > 0)
  }
  t.strictSame(result.options.requests, ['GET /', 'GET /found'], 'the operations of the OpenAPI document that answer')
})

t.test('node:http with a shutdown of its own passes', together, async t => {
  t.strictSame((await drillGood([], fixture('good', 'http'))).reasons, [])
})

for (const host of ['::1', '::']) {
  t.test(`a server that listens on ${host} is found`, together, async t => {
    const result = await drillGood([], fixture('good', 'http', host))
    t.strictSame(result.reasons, [])
    t.match(result.restarts[0]!.url, host === '::1' ? /^http:\/\/\[::1\]:\d+$/ : /^http:\/\/127\.0\.0\.1:\d+$/)
  })
}

t.test('Fastify with close() on SIGTERM rejects without Retry-After, at most', together, async t => {
  const result = await drillShortly([], fixture('good', 'fastify'))
  t.strictSame(failed(result).filter(rule => rule !== 'lost' && rule !== 'retry-after' && rule !== 'grace'), [])
  t.equal(result.requests.truncated + result.requests.hung, 0)
})

t.test('Express with terminus ends by itself with code 0', together, async t => {
  const result = await drillShortly([], fixture('good', 'terminus'))
  t.strictSame(failed(result).filter(rule => rule !== 'lost'), [])
  t.equal(result.restarts[0]!.process.exitCode, 0)
  t.equal(result.requests.truncated + result.requests.hung + result.requests.rejectedWithoutRetryAfter, 0)
})

const python = ['python3', 'python'].find(program => {
  try {
    execFileSync(program, ['-c', 'import http.server'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})

t.test("Python's http.server ends by the signal", { buffered: true, skip: python === undefined && 'no python3' }, async t => {
  const directory = t.testdir({ 'index.html': 'fine' })
  const result = await drillShortly([], clean(python!, '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', directory))
  t.ok(failed(result).includes('ended-by-signal'))
  t.equal(result.requests.truncated, 0)
  t.ok(result.requests.answered > 20)
})

t.test('with the defaults a drill takes at most 8 s, and --json prints only JSON', together, async t => {
  const began = performance.now()
  const { code, stdout, stderr } = await drill('--json', '--', ...fixture('faulty', 'no handler'))
  t.ok(performance.now() - began < 8_000)
  t.equal(code, 1)
  const result = JSON.parse(stdout)
  t.equal(result.schemaVersion, 1)
  t.equal(total(result.requests), result.restarts[0].bars.flatMap((bar: { counts: Record<string, number> }) => Object.values(bar.counts)).reduce((a: number, b: number) => a + b, 0))
  t.match(stderr, /^http:\/\/127\.0\.0\.1:\d+ is ready \(pid \d+\); GET \/, 200 per second\nSIGTERM: \d+ requests before\nthe process ended after \d+ ms\n$/)
})

t.test('a port that never answers delays the drill by at most a second', together, async t => {
  const script = "require('net').createServer(socket => socket.on('error', () => {})).listen(0, '127.0.0.1').unref(); " +
    "const server = require('http').createServer((_, response) => response.end()).listen(0, '127.0.0.1'); " +
    "process.on('SIGTERM', () => process.exit(0))"
  const began = performance.now()
  const { code, stdout, stderr } = await drill('--before', '0.3', '--ready', '4', '--lost', '1000', '--json', '--', ...clean(process.execPath, '-e', script))
  t.equal(code, 0, stderr)
  t.ok(JSON.parse(stdout).restarts[0].process.phases.start < 4_000, `${Math.round(performance.now() - began)} ms`)
})
