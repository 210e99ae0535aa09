/** The command: drills that cannot run, running servers, files, and signals to the drill itself. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { isRunning } from '../../../lib/cli/drill/process-table'
import { watchTree } from '../../../lib/cli/drill/process-tree'
import { run } from '../../helpers/children'
import { clean, drill, failed, fixture, main } from './helpers'

t.jobs = 4

/** A test that runs beside others. */
const together = { buffered: true }

const node = (script: string): string[] => clean(process.execPath, '-e', script)

t.test('a drill that cannot run has exit code 2 and one clear line', together, async t => {
  const cases: ReadonlyArray<readonly [args: readonly string[], command: readonly string[], line: RegExp]> = [
    [[], ['no-such-command'], /cannot start 'no-such-command': there is no such command/],
    [[], [join(__dirname, 'helpers.ts')], /cannot start '.*': it is not executable/],
    [[], node("console.error('no configuration'); process.exit(3)"), /the command ended early with exit code 3, before it answered a request: no configuration/],
    [[], node("process.kill(process.pid, 'SIGKILL')"), /the command ended early by SIGKILL/],
    [['--ready', '0.3'], clean('sleep', '60'), /the command does not listen on a TCP port in 0.3 s/],
    [['--ready', '3'], node("require('http').createServer((_, response) => { response.statusCode = 503; response.end() }).listen(0, '127.0.0.1')"),
      /the server answered 502, 503 or 504 only, in 3 s/],
    [['--ready', '3'], node("require('net').createServer(socket => socket.end('SSH-2.0-x\\r\\n')).listen(0, '127.0.0.1')"), /no HTTP\/1 answer from 127\.0\.0\.1:\d+ in 3 s/],
    [['--ready', '3'], node("const { readFileSync } = require('fs'); const read = name => readFileSync(" + JSON.stringify(join(__dirname, '../../helpers/fixtures')) +
      " + '/' + name); require('https').createServer({ key: read('key.pem'), cert: read('cert.pem') }).listen(0, '127.0.0.1')"), /uses TLS, which the drill does not support/],
    [[], node("require('http').createServer((_, response) => { response.end(); setTimeout(() => process.exit(0), 50) }).listen(0, '127.0.0.1')"),
      /ended early|ended during the traffic before SIGTERM/],
    [['--sse', '/events'], fixture('good', 'http'), /does not answer by a stream|the stream was/],
    [['--ws', '/socket'], fixture('good', 'http'), /does not accept a WebSocket: status 200/],
    [['--url', 'http://192.0.2.1'], fixture('good', 'http'), /'192\.0\.2\.1' is not this machine/]
  ]
  t.jobs = 3
  for (const [args, command, line] of cases) {
    t.test(line.source, { buffered: true }, async t => {
      const { code, stdout, stderr } = await drill('--before', '0.3', ...args, '--', ...command)
      t.equal(code, 2)
      t.equal(stdout, '')
      const lines = stderr.trim().split('\n')
      t.match(lines.at(-1), line)
      t.ok(lines.slice(0, -1).every(line => !line.startsWith('fastify-shutdown:')), 'one line')
    })
  }
})

t.test('wrong arguments have exit code 2 and the usage', async t => {
  const { code, stderr } = await drill('--grace', 'soon', '--', 'x')
  t.equal(code, 2)
  t.match(stderr, /^fastify-shutdown: expected --grace to be seconds.*\n\nUsage: fastify-shutdown drill/)
  t.equal((await drill('--help')).code, 0)
})

t.test('files are written whole, with equal counts, beside the JSON', together, async t => {
  const directory = t.testdir()
  const file = (name: string): string => join(directory, name)
  const { code, stdout } = await drill(
    '--before', '0.5', '--json', '--html', file('a.html'), '--junit', file('a.xml'), '--markdown', file('a.md'), '--', ...fixture('good', 'http')
  )
  t.equal(code, 0)
  const { requests } = JSON.parse(stdout)
  t.strictSame(readdirSync(directory).sort(), ['a.html', 'a.md', 'a.xml'])
  t.ok(readFileSync(file('a.html'), 'utf8').includes(`<td class="number">${requests.answered}</td></tr>`))
  t.ok(readFileSync(file('a.xml'), 'utf8').includes(`<property name="answered" value="${requests.answered}"/>`))
  t.ok(readFileSync(file('a.md'), 'utf8').includes(`| ${requests.answered} |\n`))
})

t.test('a file that cannot be written does not hide the result, and a device or a link is not replaced', together, async t => {
  const directory = t.testdir({ 'real.md': 'old', link: t.fixture('symlink', 'real.md') })
  const args = ['--before', '0.3', '--json', '--html', '/dev/null', '--markdown', join(directory, 'link')]
  const passed = await drill(...args, '--', ...fixture('good', 'http'))
  t.equal(passed.code, 0, passed.stderr)
  t.ok(statSync('/dev/null').isCharacterDevice())
  t.ok(lstatSync(join(directory, 'link')).isSymbolicLink())
  t.match(readFileSync(join(directory, 'real.md'), 'utf8'), '## Shutdown drill: passed')

  // The name is longer than any file system allows.
  const unwritable = await drill('--before', '0.3', '--json', '--html', join(directory, 'x'.repeat(300)), '--', ...fixture('good', 'http'))
  t.equal(unwritable.code, 2)
  t.match(unwritable.stderr, /fastify-shutdown: cannot write .*ENAMETOOLONG/)
  t.equal(JSON.parse(unwritable.stdout).verdict, 'passed')
})

/** A server that runs already, in a loop that starts it again: `sh` writes its pid file. */
async function supervised (t: Test): Promise<{ url: string, pidFile: string }> {
  const directory = t.testdir()
  const pidFile = join(directory, 'pid')
  const probe = net.createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as net.AddressInfo
  await new Promise(resolve => probe.close(resolve))
  const server = join(directory, 'server.js')
  writeFileSync(server, `const http = require('http')
    const server = http.createServer((_, response) => response.end('fine')).listen(${port}, '127.0.0.1', () => require('fs').writeFileSync(${JSON.stringify(pidFile)}, String(process.pid)))
    process.on('SIGTERM', () => {
      server.prependListener('request', (_, response) => response.setHeader('connection', 'close'))
      setTimeout(() => server.closeIdleConnections(), 150)
      setTimeout(() => server.close(), 300)
    })`)
  const loop = run(t, { program: 'sh', args: ['-c', `while :; do ${process.execPath} ${server}; done`], group: true })
  t.teardown(() => { loop.kill('SIGKILL') })
  while (!existsSync(pidFile)) await new Promise(resolve => setTimeout(resolve, 20))
  return { url: `http://127.0.0.1:${port}`, pidFile }
}

t.test('a running server, by --url and --pid-file, with restarts', together, async t => {
  const { url, pidFile } = await supervised(t)
  const { code, stdout, stderr } = await drill('--url', url, '--pid-file', pidFile, '--restarts', '2', '--before', '0.4', '--json')
  t.equal(code, 0, stderr)
  const result = JSON.parse(stdout)
  t.strictSame(failed(result), [])
  t.equal(result.restarts.length, 2)
  t.not(result.restarts[0].process.pid, result.restarts[1].process.pid)
  t.match(result.notes.at(-1), 'the exit code is unknown')
})

t.test('a running server, by --pid alone, is found and is not killed', together, async t => {
  const [, ...args] = clean(process.execPath, '-e', "require('http').createServer((_, response) => response.end()).listen(0, '127.0.0.1', () => console.log('ready')); process.on('SIGTERM', () => {})")
  const child = spawn('env', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const { code, stdout } = await drill('--pid', String(child.pid), '--before', '0.4', '--grace', '0.6', '--json')
  t.equal(code, 1)
  t.ok(failed(JSON.parse(stdout)).includes('signal-ignored'))
  t.ok(isRunning(child.pid!), 'the drill kills only what it has started')
})

t.test('a process that does not exist, and a pid file without a running process', async t => {
  const file = join(t.testdir({ text: 'text', gone: '4194305' }), '')
  t.match((await drill('--pid', '4194305')).stderr, 'there is no process 4194305')
  t.match((await drill('--pid-file', join(file, 'text'))).stderr, 'does not contain a pid')
  t.match((await drill('--pid-file', join(file, 'gone'))).stderr, 'names process 4194305, which does not run')
  t.match((await drill('--pid-file', join(file, 'missing'))).stderr, 'ENOENT')
})

t.test('--url with a command selects the port', together, async t => {
  const other = http.createServer((_, response) => { response.end('other') }).listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => {
    other.closeAllConnections()
    other.close()
  })
  const url = `http://127.0.0.1:${(other.address() as net.AddressInfo).port}`
  const { stdout } = await drill('--url', url, '--before', '0.3', '--json', '--', ...fixture('good', 'http'))
  const result = JSON.parse(stdout)
  t.equal(result.restarts[0].url, url)
  t.equal(result.requests.refused, 0)
  t.strictSame(result.restarts[0].process.openListeners, [], 'a listener of another process is not the server\'s')
})

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  for (const moment of ['is ready', 'SIGTERM: ']) {
    t.test(`${signal} to the drill leaves no child behind, after '${moment}'`, together, async t => {
      const child = spawn(process.execPath, [
        '-e', `require(${JSON.stringify(main)}).run(process.argv.slice(1), process).then(code => { process.exitCode = code })`, 'drill', '--before', '0.3', '--',
        ...clean('sh', '-c', 'trap "" TERM; "$@" & wait', 'sh', ...fixture('faulty', 'detached orphan'))
      ], { stdio: ['ignore', 'pipe', 'pipe'] })
      t.teardown(() => child.kill('SIGKILL'))
      let stderr = ''
      const closed = once(child, 'close')
      await new Promise<void>(resolve => child.stderr.on('data', chunk => {
        stderr += chunk
        if (stderr.includes(moment)) resolve()
      }))
      const pid = Number(/pid (\d+)/.exec(stderr)![1])
      const tree = watchTree(pid, true)
      const left = tree.descendants()
      tree.stop()
      t.ok(left.length >= 2, 'the server and its child')
      child.kill(signal)
      const [code] = await closed as [number | null]
      t.equal(code, 2)
      t.match(stderr.trim().split('\n').at(-1), `fastify-shutdown: interrupted by ${signal}`)
      t.strictSame([pid, ...left].filter(isRunning), [])
    })
  }
}

t.test('an error in the drill leaves no child behind', together, async t => {
  const script = `const { run } = require(${JSON.stringify(main)})
    let written = ''
    const stderr = { write (text) { process.stderr.write(text); if (text.includes('is ready')) setImmediate(() => { throw new Error('a fault in the drill') }) } }
    run(process.argv.slice(1), { stdout: process.stdout, stderr }).then(code => { process.exitCode = code })`
  const child = run(t, { args: ['-e', script, 'drill', '--', ...fixture('good', 'http')] })
  const { code, stderr } = await child.ended
  t.equal(code, 2)
  t.match(stderr, 'an error in the drill: a fault in the drill')
  t.notOk(isRunning(Number(/pid (\d+)/.exec(stderr)![1])))
})
