import { execFile, fork, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import cluster, { type Worker } from 'node:cluster'
import { EventEmitter, once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { tieCluster } from '../../lib/process/cluster'
import { tiePm2, type Channel } from '../../lib/process/pm2'
import { tieSystemd, type SystemdOptions } from '../../lib/process/systemd'
import { virtualTime } from '../helpers/time'
import { serve, translate } from '../helpers/children'
import { standIn } from './fixtures/stand-in'

/** Not t.testdir(): a socket's path ends at 107 characters. */
function shortDirectory (t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'fastify-shutdown-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const fixtures = join(__dirname, 'fixtures')
/** What tap itself loads TypeScript with. */
const typescript = process.execArgv.filter(argument => argument.includes('@tapjs/typescript'))

t.test('where nobody manages the process', async t => {
  t.test('no tie listens to anything', async t => {
    const app = standIn()
    const env = { PATH: process.env.PATH }
    const channel = Object.assign(new EventEmitter(), { env, connected: true, send: () => t.fail('nothing is sent') })
    const before = process.eventNames().map(name => [name, process.listenerCount(name)])
    for (const tie of [tiePm2(app, channel), tieCluster(app), tieSystemd(app, { env })]) {
      tie.ready()
      app.enter('draining')
      tie.undo()
      tie.undo()
    }
    t.equal(channel.eventNames().length, 0)
    t.strictSame(process.eventNames().map(name => [name, process.listenerCount(name)]), before)
    t.equal(app.listeners(), 0)
  })

  t.test('a PM2 app without a channel is left alone', async t => {
    const channel = Object.assign(new EventEmitter(), { env: { pm_id: '0' } })
    tiePm2(standIn(), channel).ready()
    t.equal(channel.eventNames().length, 0)
  })

  t.test('neither a cluster worker nor a PM2 app speaks to systemd: it is not the whole service', async t => {
    for (const options of [{ isWorker: true, env: { NOTIFY_SOCKET: '/x' } }, { isWorker: false, env: { NOTIFY_SOCKET: '/x', pm_id: '0' } }]) {
      const app = standIn()
      tieSystemd(app, { ...options, program: 'no-such-program', onProblem: () => t.fail('nothing is started') }).ready()
      t.equal(app.listeners(), 0)
    }
  })
})

t.test('PM2', async t => {
  function channelOf (t: Test): { channel: Channel & EventEmitter, sent: unknown[] } {
    const sent: unknown[] = []
    const channel = Object.assign(new EventEmitter(), {
      env: { pm_id: '0' },
      connected: true,
      send (message: unknown, _handle: undefined, _options: undefined, callback: (error: Error | null) => void) {
        t.type(callback, 'function', 'a channel that closes meanwhile must not become an error event')
        sent.push(message)
      }
    })
    return { channel, sent }
  }

  t.test('ready is said once, and never into a closed channel', async t => {
    const { channel, sent } = channelOf(t)
    const tie = tiePm2(standIn(), channel)
    tie.ready()
    tie.ready()
    t.strictSame(sent, ['ready'])
    const closed = channelOf(t)
    tiePm2(standIn(), Object.assign(closed.channel, { connected: false })).ready()
    t.strictSame(closed.sent, [])
  })

  t.test("the message 'shutdown' begins a shutdown, any other does not, and none does after undo", async t => {
    const { channel } = channelOf(t)
    const app = standIn()
    const tie = tiePm2(app, channel)
    for (const message of ['hello', null, { type: 'shutdown' }, 'Shutdown', 1]) channel.emit('message', message)
    t.strictSame(app.reasons, [])
    channel.emit('message', 'shutdown')
    t.strictSame(app.reasons, [{ kind: 'message', detail: 'shutdown' }])
    tie.undo()
    channel.emit('message', 'shutdown')
    t.equal(app.reasons.length, 1)
  })

  t.test('after undo the open channel no longer keeps the process alive', async t => {
    const child = fork(join(fixtures, 'pm2-app.ts'), { execArgv: typescript, env: { ...process.env, pm_id: '7', kill_timeout: '4000' }, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
    const [message] = await once(child, 'message')
    t.equal(message, 'ready')
    child.send('shutdown')
    const [code] = await once(child, 'exit')
    t.equal(code, 0)
  })

  t.test('the real PM2 waits for ready, tells its kill_timeout, and stops by message', async t => {
    const home = shortDirectory(t)
    const pm2 = (...args: string[]) => promisify(execFile)(process.execPath, [require.resolve('pm2/bin/pm2'), ...args], {
      // Without tap's own variables, which would make the daemon a part of this test.
      env: { PATH: process.env.PATH, HOME: home, PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: 'true' }
    })
    t.teardown(async () => { await pm2('kill') })
    const out = join(home, 'out.log')
    // PM2 has its own ideas about the name .ts.
    writeFileSync(join(home, 'app.js'), `require(${JSON.stringify(join(fixtures, 'pm2-app.ts'))})`)
    writeFileSync(join(home, 'ecosystem.config.json'), JSON.stringify({
      apps: [{
        name: 'app',
        script: join(home, 'app.js'),
        interpreter: process.execPath,
        node_args: typescript,
        exec_mode: 'fork',
        out_file: out,
        error_file: join(home, 'error.log'),
        wait_ready: true,
        listen_timeout: 20_000,
        kill_timeout: 4_321,
        shutdown_with_message: true,
        autorestart: false
      }]
    }))
    await pm2('start', join(home, 'ecosystem.config.json'))
    t.strictSame(lines(out), [{ platform: { name: 'pm2', delay: 1_000, gracePeriod: 4_321, gracePeriodKnown: true } }], 'start returned only when the app was ready')
    await pm2('stop', 'app')
    t.strictSame(lines(out).slice(1), [{ reason: { kind: 'message', detail: 'shutdown' } }])
  })

  function lines (file: string): unknown[] {
    return readFileSync(file, 'utf8').trim().split('\n').map(line => JSON.parse(line))
  }
})

t.test('node:cluster', async t => {
  cluster.setupPrimary({ exec: join(fixtures, 'cluster-worker.ts'), execArgv: typescript })

  async function startWorker (t: Test): Promise<{ worker: Worker, get: () => Promise<string>, told: (name: string) => Promise<unknown> }> {
    const worker = cluster.fork()
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(async () => {
      agent.destroy()
      if (!worker.isDead()) worker.process.kill('SIGKILL')
    })
    const [{ port }] = await once(worker, 'listening')
    const messages: Array<Record<string, unknown>> = []
    const arrived = new EventEmitter()
    worker.on('message', message => {
      messages.push(message)
      arrived.emit('message')
    })
    return {
      worker,
      async told (name) {
        for (;;) {
          const found = messages.find(message => name in message)
          if (found !== undefined) return found[name]
          await once(arrived, 'message')
        }
      },
      get: () => new Promise((resolve, reject) => {
        const request = http.get({ port, host: '127.0.0.1', agent }, response => {
          response.resume().once('end', () => resolve(`${response.statusCode} ${request.reusedSocket ? 'reused' : 'new'}`))
        }).once('error', reject)
      })
    }
  }

  for (const [how, ask] of [
    ['the primary disconnects it', (worker: Worker) => { worker.disconnect() }],
    ['it disconnects itself', (worker: Worker) => { worker.send('own') }]
  ] as const) {
    t.test(`a worker still serves its keep-alive connections when ${how}, and goes when its shutdown is over`, async t => {
      const { worker, get, told } = await startWorker(t)
      t.equal(await get(), '200 new')
      ask(worker)
      t.strictSame(await told('reason'), { kind: 'message', detail: 'disconnect' })
      t.equal(await get(), '200 reused')
      t.ok(worker.isConnected())
      worker.process.send('finish')
      const [code, signal] = await once(worker, 'exit') as [number, string | null]
      t.strictSame([code, signal], [0, null])
      t.equal(worker.exitedAfterDisconnect, true)
    })
  }

  t.test("the message 'shutdown' begins a shutdown", async t => {
    const { worker, told } = await startWorker(t)
    worker.send('shutdown')
    t.strictSame(await told('reason'), { kind: 'message', detail: 'shutdown' })
  })

  t.test('after undo Node disconnects the worker as if we had never been there', async t => {
    const { worker, get, told } = await startWorker(t)
    t.equal(await get(), '200 new')
    worker.send('undo')
    await told('undone')
    worker.disconnect()
    const [code] = await once(worker, 'exit')
    t.equal(code, 0)
  })
})

t.test('systemd', async t => {
  const missing = ['systemd-notify', 'perl'].filter(program => spawnSync(program, ['--version']).error !== undefined)
  if (missing.length > 0) {
    const line = `install ${missing.join(' and ')} to run this`
    if (process.env.REQUIRE_SERVICES === '1') t.fail(line)
    return t.test('a real datagram socket', { skip: line }, async () => {})
  }

  /** A unix datagram socket that stands for systemd: words as they come, one object a datagram. */
  async function systemd (t: Test): Promise<{ env: NodeJS.ProcessEnv, heard: Array<Record<string, string>>, until: (test: (words: Record<string, string>) => boolean) => Promise<Record<string, string>> }> {
    const socket = join(shortDirectory(t), 'notify')
    // Reading without room for descriptors closes the one that systemd-notify's barrier sends: that is the barrier's answer.
    const receiver = spawn('perl', ['-MSocket', '-e', `
      $| = 1; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die; print "bound\\n";
      while (defined recv($s, my $data, 65536, 0)) { $data =~ s/\\n/\\t/g; print "$data\\n" }`, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => stop(receiver))
    const lines = createInterface({ input: receiver.stdout })
    await once(lines, 'line')
    const heard: Array<Record<string, string>> = []
    lines.on('line', line => { heard.push(Object.fromEntries(line.split('\t').filter(Boolean).map(word => word.split('=')))) })
    return {
      env: { PATH: process.env.PATH, NOTIFY_SOCKET: socket },
      heard,
      async until (test) {
        for (;;) {
          const found = heard.find(test)
          if (found !== undefined) return found
          await once(lines, 'line')
        }
      }
    }
  }

  t.test('hears of every step, in order, with numbers only', async t => {
    const { env, heard, until } = await systemd(t)
    const app = standIn()
    const tie = tieSystemd(app, { env, onProblem: error => t.fail(error.message) })
    t.teardown(tie.undo)
    tie.ready()
    tie.ready()
    t.match(await until(words => 'READY' in words), { READY: '1', STATUS: 'running' })
    app.enter('lame-duck', { remaining: 60_000, activeRequests: 2 })
    await until(words => words.STATUS === 'lame-duck: 2 requests')
    app.enter('draining', { remaining: 3_000, activeRequests: 2, activeStreams: 1, activeWebSockets: 4, activeTasks: 3 })
    const draining = await until(words => words.STATUS?.startsWith('draining') === true)
    t.equal(draining.STATUS, 'draining: 2 requests, 1 streams, 4 WebSockets, 3 tasks')
    t.equal(draining.EXTEND_TIMEOUT_USEC, '3000000', 'never more than what we have left')
    app.enter('cleaning', { remaining: 0, activeRequests: 0, activeStreams: 0, activeWebSockets: 0, activeTasks: 0 })
    t.equal((await until(words => words.STATUS === 'cleaning')).EXTEND_TIMEOUT_USEC, undefined, 'no time left: none is asked for')
    const known = heard.filter(words => !('BARRIER' in words))
    t.equal(known.filter(words => 'READY' in words).length, 1)
    t.equal(known.filter(words => 'STOPPING' in words).length, 1)
    t.equal(known.find(words => 'EXTEND_TIMEOUT_USEC' in words)?.EXTEND_TIMEOUT_USEC, '5000000', 'a process that froze is not waited for long')
    t.ok(known.findIndex(words => 'READY' in words) < known.findIndex(words => 'STOPPING' in words))
  })

  t.test('hears from a whole service that it is ready, that it stops, what it waits for, and that it lives', async t => {
    const { env, heard, until } = await systemd(t)
    const service = await serve(t, translate(t.testdir()), {}, { env: { NOTIFY_SOCKET: env.NOTIFY_SOCKET, WATCHDOG_USEC: '200000' } })
    t.match(await until(words => 'READY' in words), { STATUS: 'running' })
    await until(words => 'WATCHDOG' in words)
    const { answer } = await service.slow(1_500)
    service.kill('SIGTERM')
    await until(words => 'STOPPING' in words)
    const told = heard.length
    t.match(await until(words => words.STATUS === 'draining: 1 requests'), { EXTEND_TIMEOUT_USEC: '5000000' })
    await until(words => heard.indexOf(words) > told && 'WATCHDOG' in words)
    t.equal((await answer).whole, true)
    t.strictSame(await service.ended.then(({ code, stderr }) => [code, stderr]), [0, ''])
    t.equal(heard.filter(words => 'READY' in words).length, 1)
    t.equal(heard.filter(words => 'STOPPING' in words).length, 1)
    t.ok(heard.findIndex(words => 'READY' in words) < heard.findIndex(words => 'STOPPING' in words))
  })

  t.test('is asked for more time each second while work remains, and no longer after undo', async t => {
    const { env, heard, until } = await systemd(t)
    const app = standIn()
    const time = virtualTime(t)
    const tie = tieSystemd(app, { env, onProblem: error => t.fail(error.message) })
    app.enter('draining', { remaining: 4_000 })
    await until(words => words.EXTEND_TIMEOUT_USEC === '4000000')
    Object.assign(app.state, { remaining: 2_500 })
    time.advance(999)
    Object.assign(app.state, { remaining: 2_000 })
    time.advance(1)
    await until(words => words.EXTEND_TIMEOUT_USEC === '2000000')
    t.notOk(heard.some(words => words.EXTEND_TIMEOUT_USEC === '2500000'))
    tie.undo()
    t.equal(app.listeners(), 0)
    time.advance(10_000)
    app.enter('cleaning', { remaining: 1_000 })
    t.notOk(heard.some(words => words.STATUS === 'cleaning'))
  })

  for (const [name, env, pid, expected] of [
    ['the watchdog is fed at half of its time', { WATCHDOG_USEC: '200000', WATCHDOG_PID: '42' }, 42, true],
    ['the watchdog is fed where it is nobody\'s in particular', { WATCHDOG_USEC: '200000' }, 42, true],
    ['a watchdog of another process is not fed', { WATCHDOG_USEC: '200000', WATCHDOG_PID: '43' }, 42, false],
    ['a watchdog of no time is none', { WATCHDOG_USEC: '0' }, 42, false],
    ['a watchdog of nonsense is none', { WATCHDOG_USEC: 'soon' }, 42, false]
  ] as const) {
    t.test(name, async t => {
      const { heard, until, env: basis } = await systemd(t)
      const app = standIn()
      const time = virtualTime(t)
      const tie = tieSystemd(app, { env: { ...basis, ...env }, pid, onProblem: error => t.fail(error.message) })
      t.teardown(tie.undo)
      time.advance(10_000)
      tie.ready()
      await until(words => 'READY' in words)
      t.notOk(heard.some(words => 'WATCHDOG' in words), 'not before ready')
      time.advance(99)
      app.enter('lame-duck', { remaining: 10_000 })
      t.notOk((await until(words => words.STATUS === 'lame-duck')).WATCHDOG)
      time.advance(1)
      app.enter('draining', { remaining: 10_000 })
      await until(words => words.STATUS === 'draining')
      t.equal(heard.some(words => 'WATCHDOG' in words), expected)
    })
  }

  /** The tie keeps nothing alive, which is its point: so this test has to. */
  function stayAlive (t: Test): void {
    const timer = setInterval(() => {}, 60_000)
    t.teardown(() => clearInterval(timer))
  }

  t.test('a program that is missing is said once, and changes nothing else', async t => {
    stayAlive(t)
    const problems: Error[] = []
    const app = standIn()
    const problem = new EventEmitter()
    const tie = tieSystemd(app, { env: { NOTIFY_SOCKET: '/nowhere' }, program: 'no-such-program', onProblem: error => { problems.push(error); problem.emit('one') } })
    t.teardown(tie.undo)
    const first = once(problem, 'one')
    tie.ready()
    await first
    app.enter('draining', { remaining: 1_000 })
    app.enter('cleaning', { remaining: 1_000 })
    await new Promise(resolve => { setImmediate(resolve) })
    t.strictSame(problems.map(error => error.message), ['systemd cannot be told how this service is: no-such-program did not start (ENOENT)'])
  })

  t.test('a socket where nobody listens is said once', async t => {
    stayAlive(t)
    const [error] = await new Promise<[Error]>(resolve => {
      const options: SystemdOptions = { env: { PATH: process.env.PATH, NOTIFY_SOCKET: join(shortDirectory(t), 'nobody') }, onProblem: error => resolve([error]) }
      const tie = tieSystemd(standIn(), options)
      t.teardown(tie.undo)
      tie.ready()
    })
    t.match(error.message, /systemd-notify ended with 1$/)
  })

  t.test('a program that hangs keeps nobody alive', async t => {
    const dir = t.testdir({ hang: '#!/bin/sh\n: > "$0.runs"\nwhile [ -e "$0" ]; do sleep 0.1; done\n' }) // ends with its directory
    const program = join(dir, 'hang')
    chmodSync(program, 0o755)
    const source = `
      const { tieSystemd } = require(${JSON.stringify(join(__dirname, '../../lib/process/systemd.ts'))})
      const { standIn } = require(${JSON.stringify(join(fixtures, 'stand-in.ts'))})
      const { watch } = require('node:fs')
      const watcher = watch(${JSON.stringify(dir)}, () => watcher.close()) // until the program runs
      const app = standIn()
      tieSystemd(app, { env: { PATH: process.env.PATH, NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000000' }, program: ${JSON.stringify(program)} }).ready()
      app.enter('draining', { remaining: 10000 })`
    const child = spawn(process.execPath, [...typescript, '-e', source], { stdio: 'inherit' })
    const [code] = await once(child, 'exit')
    t.equal(code, 0)
    t.ok(existsSync(`${program}.runs`))
  })

  async function stop (child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})
