import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { chmodSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { connectSystemd } from '../../lib/process/systemd'
import { serve, shortDirectory, translate, typescript } from '../helpers/children'
import { virtualTime } from '../helpers/time'
import { createServer } from './fixtures/managed-server'

type Variables = Record<string, string>

interface Systemd {
  readonly env: NodeJS.ProcessEnv
  /** The variables of each message, in the order of their arrival. */
  readonly received: Variables[]
  /** Waits for a message that passes the test. */
  until (test: (variables: Variables) => boolean): Promise<Variables>
}

t.test('a part of a service does not notify systemd: neither a cluster worker nor a PM2 app', async t => {
  for (const options of [{ isWorker: true, env: { NOTIFY_SOCKET: '/x' } }, { isWorker: false, env: { NOTIFY_SOCKET: '/x', pm_id: '0' } }]) {
    const server = createServer()
    connectSystemd(server, { ...options, program: 'no-such-program', onProblem: () => t.fail('a program is started') }).notifyReady()
    t.equal(server.listeners(), 0)
  }
})

t.test('with a real datagram socket', { skip: missingPrograms(t) }, async t => {
  /** A unix datagram socket in the place of systemd's. */
  async function startSystemd (t: Test): Promise<Systemd> {
    const socket = join(shortDirectory(t), 'notify')
    // systemd-notify waits until systemd closes a descriptor that it sends. A read without room for descriptors closes it.
    const receiver = spawn('perl', ['-MSocket', '-e', `
      $| = 1; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die; print "bound\\n";
      while (defined recv($s, my $data, 65536, 0)) { $data =~ s/\\n/\\t/g; print "$data\\n" }`, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => stop(receiver))
    const lines = createInterface({ input: receiver.stdout })
    await once(lines, 'line')
    const received: Variables[] = []
    lines.on('line', line => { received.push(Object.fromEntries(line.split('\t').filter(Boolean).map(variable => variable.split('=')))) })
    return {
      env: { PATH: process.env.PATH, NOTIFY_SOCKET: socket },
      received,
      async until (test) {
        for (;;) {
          const found = received.find(test)
          if (found !== undefined) return found
          await once(lines, 'line')
        }
      }
    }
  }

  t.test('systemd receives each phase in order, with numbers only', async t => {
    const { env, received, until } = await startSystemd(t)
    const server = createServer()
    const connection = connectSystemd(server, { env, onProblem: error => t.fail(error.message) })
    t.teardown(connection.close)
    connection.notifyReady()
    connection.notifyReady()
    t.match(await until(variables => 'READY' in variables), { READY: '1', STATUS: 'running' })
    server.enter('lame-duck', { remaining: 60_000, activeRequests: 2 })
    await until(variables => variables.STATUS === 'lame-duck: 2 requests')
    server.enter('draining', { remaining: 3_000, activeRequests: 2, activeStreams: 1, activeWebSockets: 4, activeTasks: 3 })
    const draining = await until(variables => variables.STATUS?.startsWith('draining') === true)
    t.equal(draining.STATUS, 'draining: 2 requests, 1 streams, 4 WebSockets, 3 tasks')
    t.equal(draining.EXTEND_TIMEOUT_USEC, '3000000', 'never more than the shutdown has left')
    server.enter('cleaning', { remaining: 0, activeRequests: 0, activeStreams: 0, activeWebSockets: 0, activeTasks: 0 })
    t.equal((await until(variables => variables.STATUS === 'cleaning')).EXTEND_TIMEOUT_USEC, undefined, 'no time left, no extension')
    const own = received.filter(variables => !('BARRIER' in variables))
    t.equal(own.filter(variables => 'READY' in variables).length, 1)
    t.equal(own.filter(variables => 'STOPPING' in variables).length, 1)
    t.equal(own.find(variables => 'EXTEND_TIMEOUT_USEC' in variables)?.EXTEND_TIMEOUT_USEC, '5000000', 'a frozen process gets 5 s at most')
    t.ok(own.findIndex(variables => 'READY' in variables) < own.findIndex(variables => 'STOPPING' in variables))
  })

  t.test('a whole service notifies systemd that it is ready, that it stops, what is pending, and that it is alive', async t => {
    const { env, received, until } = await startSystemd(t)
    const service = await serve(t, translate(t.testdir()), {}, { env: { NOTIFY_SOCKET: env.NOTIFY_SOCKET, WATCHDOG_USEC: '200000' } })
    t.match(await until(variables => 'READY' in variables), { STATUS: 'running' })
    await until(variables => 'WATCHDOG' in variables)
    const { answer } = await service.slow(1_500)
    service.kill('SIGTERM')
    await until(variables => 'STOPPING' in variables)
    const count = received.length
    t.match(await until(variables => variables.STATUS === 'draining: 1 requests'), { EXTEND_TIMEOUT_USEC: '5000000' })
    await until(variables => received.indexOf(variables) > count && 'WATCHDOG' in variables)
    t.equal((await answer).whole, true)
    t.strictSame(await service.ended.then(({ code, stderr }) => [code, stderr]), [0, ''])
    t.equal(received.filter(variables => 'READY' in variables).length, 1)
    t.equal(received.filter(variables => 'STOPPING' in variables).length, 1)
    t.ok(received.findIndex(variables => 'READY' in variables) < received.findIndex(variables => 'STOPPING' in variables))
  })

  t.test('an extension is requested each second during a shutdown, until the connection is closed', async t => {
    const { env, received, until } = await startSystemd(t)
    const server = createServer()
    const time = virtualTime(t)
    const connection = connectSystemd(server, { env, onProblem: error => t.fail(error.message) })
    server.enter('draining', { remaining: 4_000 })
    await until(variables => variables.EXTEND_TIMEOUT_USEC === '4000000')
    Object.assign(server.state, { remaining: 2_500 })
    time.advance(999)
    Object.assign(server.state, { remaining: 2_000 })
    time.advance(1)
    await until(variables => variables.EXTEND_TIMEOUT_USEC === '2000000')
    t.notOk(received.some(variables => variables.EXTEND_TIMEOUT_USEC === '2500000'))
    connection.close()
    t.equal(server.listeners(), 0)
    time.advance(10_000)
    server.enter('cleaning', { remaining: 1_000 })
    t.notOk(received.some(variables => variables.STATUS === 'cleaning'))
  })

  for (const [name, env, pid, expected] of [
    ['the watchdog is notified after half of its time', { WATCHDOG_USEC: '200000', WATCHDOG_PID: '42' }, 42, true],
    ['the watchdog is notified if WATCHDOG_PID is not set', { WATCHDOG_USEC: '200000' }, 42, true],
    ['the watchdog of another process is not notified', { WATCHDOG_USEC: '200000', WATCHDOG_PID: '43' }, 42, false],
    ['WATCHDOG_USEC=0 is no watchdog', { WATCHDOG_USEC: '0' }, 42, false],
    ['a WATCHDOG_USEC that is no number is no watchdog', { WATCHDOG_USEC: 'soon' }, 42, false]
  ] as const) {
    t.test(name, async t => {
      const { received, until, env: common } = await startSystemd(t)
      const server = createServer()
      const time = virtualTime(t)
      const connection = connectSystemd(server, { env: { ...common, ...env }, pid, onProblem: error => t.fail(error.message) })
      t.teardown(connection.close)
      time.advance(10_000)
      connection.notifyReady()
      await until(variables => 'READY' in variables)
      t.notOk(received.some(variables => 'WATCHDOG' in variables), 'not before the server is ready')
      time.advance(99)
      server.enter('lame-duck', { remaining: 10_000 })
      t.notOk((await until(variables => variables.STATUS === 'lame-duck')).WATCHDOG)
      time.advance(1)
      server.enter('draining', { remaining: 10_000 })
      await until(variables => variables.STATUS === 'draining')
      t.equal(received.some(variables => 'WATCHDOG' in variables), expected)
    })
  }

  /** The connection keeps no process alive, so the test needs a timer while it waits for a problem. */
  function stayAlive (t: Test): void {
    const timer = setInterval(() => {}, 60_000)
    t.teardown(() => clearInterval(timer))
  }

  t.test('a missing program is reported once', async t => {
    stayAlive(t)
    const problems: Error[] = []
    const server = createServer()
    const emitter = new EventEmitter()
    const connection = connectSystemd(server, {
      env: { NOTIFY_SOCKET: '/nowhere' },
      program: 'no-such-program',
      onProblem (error) {
        problems.push(error)
        emitter.emit('problem')
      }
    })
    t.teardown(connection.close)
    const first = once(emitter, 'problem')
    connection.notifyReady()
    await first
    server.enter('draining', { remaining: 1_000 })
    server.enter('cleaning', { remaining: 1_000 })
    await new Promise(resolve => { setImmediate(resolve) })
    t.strictSame(problems.map(error => error.message), ["systemd does not receive this service's state: no-such-program did not start (ENOENT)"])
  })

  t.test('a missing socket is reported once', async t => {
    stayAlive(t)
    const error = await new Promise<Error>(resolve => {
      const connection = connectSystemd(createServer(), {
        env: { PATH: process.env.PATH, NOTIFY_SOCKET: join(shortDirectory(t), 'missing') },
        onProblem: resolve
      })
      t.teardown(connection.close)
      connection.notifyReady()
    })
    t.equal(error.message, "systemd may not have received this service's state: systemd-notify exited with 1")
  })

  t.test('a program that never ends does not keep the process alive', async t => {
    // It ends when its directory is removed.
    const dir = t.testdir({ hang: '#!/bin/sh\n: > "$0.runs"\nwhile [ -e "$0" ]; do sleep 0.1; done\n' })
    const program = join(dir, 'hang')
    chmodSync(program, 0o755)
    const source = `
      const { connectSystemd } = require(${JSON.stringify(join(__dirname, '../../lib/process/systemd.ts'))})
      const { createServer } = require(${JSON.stringify(join(__dirname, 'fixtures/managed-server.ts'))})
      const { watch } = require('node:fs')
      const watcher = watch(${JSON.stringify(dir)}, () => watcher.close()) // until the program runs
      const server = createServer()
      connectSystemd(server, { env: { PATH: process.env.PATH, NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000000' }, program: ${JSON.stringify(program)} }).notifyReady()
      server.enter('draining', { remaining: 10000 })`
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

/** @returns the reason to skip the test, if a program is missing */
function missingPrograms (t: Test): string | false {
  const missing = ['systemd-notify', 'perl'].filter(program => spawnSync(program, ['--version']).error !== undefined)
  if (missing.length === 0) return false
  const line = `install ${missing.join(' and ')} to run this`
  if (process.env.REQUIRE_SERVICES === '1') t.fail(line)
  return line
}
