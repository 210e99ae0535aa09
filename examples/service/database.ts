/** PostgreSQL: a pool with limits, a check before the service starts, and a 503 instead of a 500 while it is away. */
import { setTimeout as sleep } from 'node:timers/promises'
import createError from '@fastify/error'
import fastifyPostgres from '@fastify/postgres'
import type { FastifyInstance } from 'fastify'
import type { QueryResult, QueryResultRow } from 'pg'
import type { Config } from './variables'

export interface Database {
  /**
   * Runs one statement.
   *
   * @throws DATABASE_AWAY (503 with Retry-After) if PostgreSQL cannot be reached or does not answer in time
   */
  query<Row extends QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<QueryResult<Row>>
}

const DatabaseAwayError = createError('DATABASE_AWAY', 'The database is away', 503)

/** How long the start waits for PostgreSQL, in milliseconds. Containers start in any order. */
const startTimeout = 8_000

/**
 * Opens the pool and creates the tables. The plugin adopts the pool as the resource `postgres`.
 *
 * @throws the driver's error if PostgreSQL does not answer in time
 */
export async function openDatabase (app: FastifyInstance, config: Config): Promise<Database> {
  await app.register(fastifyPostgres, {
    connectionString: config.DATABASE_URL,
    application_name: 'fastify-service',
    // All replicas together stay below `max_connections` of PostgreSQL (100 by default).
    max: config.DATABASE_POOL_SIZE,
    // Waits for a free connection at most this long. A longer queue only makes every request late.
    connectionTimeoutMillis: 2_000,
    // An idle connection ends before a firewall forgets it, and no connection is older than an hour.
    idleTimeoutMillis: 30_000,
    maxLifetimeSeconds: 3_600,
    keepAlive: true,
    // The server ends a long statement. If the server itself is silent, the client gives up a little later.
    statement_timeout: config.DATABASE_TIMEOUT,
    query_timeout: config.DATABASE_TIMEOUT + 1_000,
    idle_in_transaction_session_timeout: 10_000,
    // The check of each new connection: after a failover, the old primary refuses writes.
    verify: (client, done) => {
      client.query<{ standby: boolean }>('select pg_is_in_recovery() as standby').then(
        ({ rows: [row] }) => done(row?.standby === true ? new Error('This PostgreSQL is a standby') : undefined), done
      )
    }
  })
  const { pool } = app.pg
  // Without a listener, the end of an idle connection ends the process.
  pool.on('error', ({ message }) => app.log.warn(`an idle database connection was lost: ${message}`))

  await untilReachable(() => pool.query('select 1'), ({ message }) => {
    app.log.warn(`the database is not reachable yet: ${message}`)
  })
  // One replica at a time: two that create the same table together fail, even with `if not exists`.
  await pool.query(`
    select pg_advisory_xact_lock(1);
    create table if not exists orders (id uuid primary key, item text not null);
    create table if not exists jobs (id uuid primary key, steps integer not null, state text not null);
    create table if not exists receipts (order_id uuid primary key)`)

  return {
    query: (sql, values) => pool.query(sql, values as unknown[]).catch((error: Error) => {
      if (!isAway(error)) throw error
      app.log.warn(`the database is away: ${error.message}`)
      throw Object.assign(new DatabaseAwayError(), { headers: { 'retry-after': '1' } })
    })
  }
}

/** Repeats a check until it succeeds. @param onFirstFailure called once, so that the log says what the start waits for */
async function untilReachable (check: () => Promise<unknown>, onFirstFailure: (error: Error) => void): Promise<void> {
  const end = performance.now() + startTimeout
  for (let failures = 0; ; failures++) {
    try {
      await check()
      return
    } catch (error) {
      if (!isAway(error as Error) || performance.now() > end) throw error
      if (failures === 0) onFirstFailure(error as Error)
      await sleep(200)
    }
  }
}

/**
 * Whether the connection has failed, and not the statement. Class 08 is a connection exception, 57P a server that
 * starts or stops, 53300 too many connections (PostgreSQL, appendix A). pg's own errors of a connection have no code.
 */
function isAway (error: Error & { readonly code?: string }): boolean {
  const { code } = error
  if (code === undefined) return /connection|timeout|standby/i.test(error.message)
  return /^(08...|57P0[1-3]|53300|E[A-Z]+)$/.test(code)
}
