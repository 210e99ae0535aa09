/** Rolling reloads by a cluster's primary and by PM2: two at once, and with a signal in between. */
import { fork, type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { translate } from '../helpers/children'
import { createPm2 } from '../helpers/pm2'

/** How many requests of a test may be sent on an idle connection that is being closed. */
const allowedRaces = 2

const directory = translate(t.testdir(), ['lib', 'test/process/fixtures/reload-worker.ts', 'test/process/fixtures/reload-primary.ts'])
const fixture = (name: string): string => join(directory, 'test/process/fixtures', name)

for (const by of ['SIGTERM', 'disconnect']) {
  t.test(`two SIGHUPs to a cluster that stops its workers by ${by} reload it once, lose no request and leave no worker behind`, async t => {
    const port = await freePort()
    const primary = startPrimary(t, port, { RELOAD_BY: by })
    const first = await primary.received('ready')

    const traffic = sendRequests(port)
    primary.process.kill('SIGHUP')
    primary.process.kill('SIGHUP')
    const second = await primary.received('reloaded')
    const { answered, failed, raced } = await traffic.stop()
    t.ok(answered > 0)
    t.strictSame(failed, [])
    t.ok(raced <= allowedRaces, `${raced} of ${answered} raced`)
    t.equal(new Set([...first, ...second]).size, 4, 'each worker was replaced')

    const exited = once(primary.process, 'exit')
    primary.process.kill('SIGTERM')
    t.equal((await exited)[0], 0)
    await primary.workersGone
    t.strictSame(primary.messages.filter(({ gone }) => gone !== undefined).map(({ code }) => code), [0, 0, 0, 0])
    t.equal(primary.messages.filter(({ reloaded }) => reloaded !== undefined).length, 1)
  })
}

t.test('a worker waits for connections that a busy primary has accepted for it', async t => {
  const port = await freePort()
  const primary = startPrimary(t, port, { PRIMARY_BUSY_MS: '20' })
  await primary.received('ready')
  const traffic = Array.from({ length: 10 }, () => sendRequests(port))
  for (let round = 1; round <= 3; round++) {
    primary.process.kill('SIGHUP')
    await primary.received('reloaded', round)
  }
  const results = await Promise.all(traffic.map(each => each.stop()))
  t.strictSame(results.flatMap(({ failed }) => failed), [])
  const raced = results.reduce((sum, each) => sum + each.raced, 0)
  t.ok(raced <= allowedRaces, `${raced} raced`)
  const exited = once(primary.process, 'exit')
  primary.process.kill('SIGTERM')
  t.equal((await exited)[0], 0)
})

t.test('workers complete their responses after their primary was killed, and then exit', async t => {
  const port = await freePort()
  const primary = startPrimary(t, port)
  await primary.received('ready')
  const [response] = await once(http.get({ port, host: '127.0.0.1', path: '/halves', agent: false }), 'response') as [http.IncomingMessage]
  let body = ''
  response.setEncoding('utf8').on('data', chunk => { body += chunk })
  await once(response, 'data')
  primary.process.kill('SIGKILL')
  await once(response, 'end')
  t.equal(body, 'first second')
  await primary.workersGone
})

t.test('a SIGTERM to a worker that PM2 is replacing does not kill it, and leaves no worker behind', async t => {
  const port = await freePort()
  const { run, start } = createPm2(t)
  const pids = async (): Promise<number[]> => (JSON.parse((await run('jlist')).replace(/^[^[]*/, '')) as { pid: number }[]).map(({ pid }) => pid)
  await start({
    name: 'app', script: fixture('reload-worker.js'), exec_mode: 'cluster', instances: 2, wait_ready: true, listen_timeout: 20_000, kill_timeout: 5_000, env: { SERVICE_PORT: port }
  })
  const before = await pids()
  const traffic = sendRequests(port)
  const reloaded = run('reload', 'app')
  // PM2 stops the first worker as soon as a new one answers.
  while (before.includes(await ask(port)));
  if (isAlive(before[0]!)) process.kill(before[0]!, 'SIGTERM')
  await reloaded
  const after = await pids()
  const { answered, failed, raced } = await traffic.stop()
  t.ok(answered > 0)
  t.strictSame(failed, [])
  t.ok(raced <= allowedRaces, `${raced} of ${answered} raced`)
  t.equal(after.length, 2)
  t.ok(after.every(pid => isAlive(pid) && !before.includes(pid)), 'both are new')
  t.strictSame(before.filter(isAlive), [], 'both old ones are gone')
})

interface Primary {
  readonly process: ChildProcess
  readonly messages: readonly Record<string, any>[] // any: each message has its own properties
  /** Waits for the given number of messages with this property. @returns the property of the last one */
  received (name: string, count?: number): Promise<number[]>
  /** Settles when the primary and all its workers have exited: they share its stdout. */
  readonly workersGone: Promise<unknown>
}

function startPrimary (t: Test, port: number, env: NodeJS.ProcessEnv = {}): Primary {
  const primary = fork(fixture('reload-primary.js'), { env: { ...process.env, TAP: '', ...env, SERVICE_PORT: String(port) }, execArgv: [], stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  t.teardown(() => { primary.kill('SIGKILL') })
  const messages: Record<string, any>[] = [] // any: each message has its own properties
  const arrived = new EventEmitter()
  primary.on('message', message => {
    messages.push(message as Record<string, any>)
    arrived.emit('message')
  })
  return {
    process: primary,
    messages,
    async received (name, count = 1) {
      for (;;) {
        const found = messages.filter(message => message[name] !== undefined)[count - 1]
        if (found !== undefined) return found[name]
        await once(arrived, 'message')
      }
    },
    workersGone: once(primary.stdout!.resume(), 'end')
  }
}

/**
 * Sends requests one after the other, on a kept connection and on new ones. A request on a kept connection that is being
 * closed is counted as `raced`: its client may send it again (RFC 9112, section 9.3.1, and `request.reusedSocket` in Node).
 */
function sendRequests (port: number): { stop(): Promise<{ answered: number, failed: string[], raced: number }> } {
  const agent = new http.Agent({ keepAlive: true })
  const failed: string[] = []
  let raced = 0
  let answered = 0
  const stopped = new AbortController()
  const over = Promise.all([agent, undefined].map(async own => {
    while (!stopped.signal.aborted) {
      try {
        await ask(port, own)
        answered++
      } catch (error) {
        if (error instanceof Raced) raced++
        else failed.push(String(error))
      }
    }
  }))
  return {
    async stop () {
      stopped.abort()
      await over
      agent.destroy()
      return { answered, failed, raced }
    }
  }
}

class Raced extends Error {}

async function ask (port: number, agent?: http.Agent): Promise<number> {
  const request = http.get({ port, host: '127.0.0.1', agent: agent ?? false })
  const [response] = await once(request, 'response').catch((error: NodeJS.ErrnoException) => {
    throw request.reusedSocket && error.code === 'ECONNRESET' ? new Raced('sent on a kept connection', { cause: error }) : error
  }) as [http.IncomingMessage]
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`)
  return (JSON.parse(body) as { pid: number }).pid
}

async function freePort (): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  return port
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
