/** Rolling reloads as they happen to a process manager: twice at once, and with a signal in the middle. */
import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { translate } from '../helpers/children'

/** How many requests of a test may meet the end of the idle connection that they were sent on. */
const races = 2

const directory = translate(t.testdir(), ['lib', 'test/process/fixtures/reload-worker.ts', 'test/process/fixtures/reload-primary.ts'])
const fixture = (name: string): string => join(directory, 'test/process/fixtures', name)

for (const by of ['SIGTERM', 'disconnect']) {
  t.test(`two SIGHUPs to a cluster that ends its workers by ${by} reload it once, lose no request and leave no orphan`, async t => {
    const port = await freePort()
    const primary = fork(fixture('reload-primary.js'), { env: { ...process.env, SERVICE_PORT: String(port), RELOAD_BY: by }, execArgv: [] })
    const messages: Record<string, any>[] = [] // any: each message has its own field
    primary.on('message', message => { messages.push(message as Record<string, any>) })
    t.teardown(() => { primary.kill('SIGKILL') })
    const first = await until(() => messages.find(({ ready }) => ready !== undefined)?.['ready'] as number[] | undefined)

    const traffic = keepAsking(port)
    primary.kill('SIGHUP')
    primary.kill('SIGHUP')
    const second = await until(() => messages.find(({ reloaded }) => reloaded !== undefined)?.['reloaded'] as number[] | undefined)
    const { answered, failed, raced } = await traffic.stop()
    t.ok(answered > 0)
    t.strictSame(failed, [])
    t.ok(raced <= races, `${raced} of ${answered} raced`)
    t.equal(new Set([...first, ...second]).size, 4, 'each worker was replaced')

    const over = once(primary, 'exit')
    primary.kill('SIGTERM')
    t.equal((await over)[0], 0)
    t.strictSame(messages.filter(({ gone }) => gone !== undefined).map(({ code }) => code), [0, 0, 0, 0])
    t.strictSame([...first, ...second].filter(isAlive), [])
    t.equal(messages.filter(({ reloaded }) => reloaded !== undefined).length, 1)
  })
}

t.test('a worker waits for what a busy primary has accepted for it, and gives it back', async t => {
  const port = await freePort()
  const primary = fork(fixture('reload-primary.js'), { env: { ...process.env, SERVICE_PORT: String(port), PRIMARY_BUSY_MS: '20' }, execArgv: [] })
  const messages: Record<string, any>[] = [] // any: each message has its own field
  primary.on('message', message => { messages.push(message as Record<string, any>) })
  t.teardown(() => { primary.kill('SIGKILL') })
  await until(() => messages.find(({ ready }) => ready !== undefined))
  const traffic = Array.from({ length: 10 }, () => keepAsking(port))
  for (let round = 1; round <= 3; round++) {
    primary.kill('SIGHUP')
    await until(() => messages.filter(({ reloaded }) => reloaded !== undefined).length === round ? true : undefined)
  }
  const seen = await Promise.all(traffic.map(each => each.stop()))
  t.strictSame(seen.flatMap(({ failed }) => failed), [])
  const raced = seen.reduce((sum, each) => sum + each.raced, 0)
  t.ok(raced <= races, `${raced} raced`)
  const over = once(primary, 'exit')
  primary.kill('SIGTERM')
  t.equal((await over)[0], 0)
})

t.test('a primary that dies takes no answer with it, and its workers go by themselves', async t => {
  const port = await freePort()
  const primary = fork(fixture('reload-primary.js'), { env: { ...process.env, SERVICE_PORT: String(port) }, execArgv: [] })
  const [{ ready: workers }] = await once(primary, 'message') as [{ ready: number[] }]
  const [response] = await once(http.get({ port, host: '127.0.0.1', path: '/halves', agent: false }), 'response') as [http.IncomingMessage]
  let body = ''
  response.setEncoding('utf8').on('data', chunk => { body += chunk })
  await once(response, 'data')
  primary.kill('SIGKILL')
  await once(response, 'end')
  t.equal(body, 'first second')
  await until(() => workers.some(isAlive) ? undefined : true)
})

t.test('a SIGTERM to a worker while PM2 reloads it is no second thought that kills, and leaves no orphan', async t => {
  const port = await freePort()
  const home = mkdtempSync(join(tmpdir(), 'fastify-shutdown-'))
  const pm2 = async (...args: string[]): Promise<string> => (await promisify(execFile)(process.execPath, [require.resolve('pm2/bin/pm2'), ...args], {
    // Without tap's own variables, which would make the daemon a part of this test.
    env: { PATH: process.env['PATH'], HOME: home, PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: 'true' }
  })).stdout
  const pids = async (): Promise<number[]> => (JSON.parse((await pm2('jlist')).replace(/^[^[]*/, '')) as { pid: number }[]).map(({ pid }) => pid)
  t.teardown(async () => {
    await pm2('kill')
    rmSync(home, { recursive: true, force: true })
  })
  writeFileSync(join(home, 'ecosystem.config.json'), JSON.stringify({
    apps: [{
      name: 'app', script: fixture('reload-worker.js'), exec_mode: 'cluster', instances: 2, wait_ready: true, listen_timeout: 20_000, kill_timeout: 5_000, env: { SERVICE_PORT: port }
    }]
  }))
  await pm2('start', join(home, 'ecosystem.config.json'))
  const before = await pids()
  const traffic = keepAsking(port)
  const reloaded = pm2('reload', 'app')
  // The very moment in which the first of them is told to go.
  const draining = await until(async () => (await gone(port, before)) ?? undefined)
  if (isAlive(draining)) process.kill(draining, 'SIGTERM')
  await reloaded
  const after = await pids()
  const { answered, failed, raced } = await traffic.stop()
  t.ok(answered > 0)
  t.strictSame(failed, [])
  t.ok(raced <= races, `${raced} of ${answered} raced`)
  t.equal(after.length, 2)
  t.ok(after.every(pid => isAlive(pid) && !before.includes(pid)), 'both are new')
  await until(() => before.some(isAlive) ? undefined : true)
})

/** One of these that answers no more requests of its own: it has been told. */
async function gone (port: number, pids: readonly number[]): Promise<number | null> {
  const seen = new Set<number>()
  for (let n = 0; n < 8; n++) seen.add(await ask(port))
  return [...seen].some(pid => !pids.includes(pid)) ? pids[0]! : null
}

/**
 * Requests one after the other, each on its own connection half of the time. One that was sent on a kept connection while that was
 * being ended is its client's to repeat (RFC 9112, section 9.3.1, and `request.reusedSocket` in Node's documentation), and counted
 * apart.
 */
function keepAsking (port: number): { stop(): Promise<{ answered: number, failed: string[], raced: number }> } {
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
    throw request.reusedSocket && error.code === 'ECONNRESET' ? new Raced('on a kept connection', { cause: error }) : error
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

async function until<T> (look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}
