/**
 * pg-boss 10 and later. `stop()` ends after its own timeout, a second call does nothing, and a job that still runs then
 * is reported as failed only by a `stop()` that is not graceful. So the adapter counts the running handlers, and calls
 * `stop()` once: gracefully when none runs, or by `force`, which returns the running jobs to the queue at once.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { within } from '../../util/time'
import { closeOnce, ignoreError, trackCalls, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { adoptPool } from './owned-pool'
import { hasFields, hasMethods, property } from './structure'

/** The part of a PgBoss that the adapter uses. */
export interface PgBoss {
  stop: (options?: any) => Promise<void> // any: each version has its own options
  offWork: (...args: any[]) => Promise<void> // any: overloads
  once (event: 'stopped', listener: () => void): unknown
}

/** Longest time to return the running jobs to the queue, in milliseconds. A frozen server uses all of it. */
const returnTimeout = 100

/** Recognises a PgBoss. */
export const pgBossAdapter: Adapter<PgBoss> = {
  kind: 'pg-boss',
  matches: client => hasFields(client, '_events') &&
    hasMethods(client, 'start', 'stop', 'send', 'work', 'offWork', 'fetch', 'schedule', 'getDb', 'on'),
  adapt: pgBoss
}

/**
 * Turns a PgBoss into a resource: `pause` takes no more jobs, `close` waits for the running handlers and for the jobs
 * that are being sent. Create it before the first `work()`, because it counts handlers from then on.
 */
export function pgBoss (boss: PgBoss): Resource {
  const queues = new Set<string>()
  const conditions = createConditions()
  const jobsSent = trackCalls(boss, 'send', 'insert', 'complete', 'fail')
  let running = 0
  let isStopping = false
  let isStopped = false
  boss.once('stopped', () => { isStopped = true; conditions.check() })
  wrapMethod(boss, 'stop', stop => (...args) => { isStopping = true; return stop(...args) })
  wrapMethod(boss, 'work', work => (name: string, ...args: unknown[]) => {
    queues.add(name)
    const handler = args.pop() as Method
    return work(name, ...args, async (...jobs: unknown[]) => {
      running++
      try {
        return await handler(...jobs)
      } finally {
        running--
        conditions.check()
      }
    })
  })

  return closeOnce({
    pause,
    close: async () => {
      if (!isStopping) {
        await pause()
        await conditions.until(() => running === 0)
        await jobsSent()
      }
      if (isStopping) return await conditions.until(() => isStopped)
      adoptPool(databaseOf(boss)?.pool)
      await boss.stop({ graceful: true, wait: true })
    },
    force: async () => {
      const database = databaseOf(boss)
      const pool = adoptPool(database?.pool)
      // Writes that the running jobs have failed, so that another worker retries them.
      if (!isStopping) await within(returnTimeout, () => boss.stop({ graceful: false }))
      // A job that ends later would write its result to a closed pool, and pg-boss does not handle that error.
      database?.close().catch(ignoreError)
      await pool.force?.()
    }
  })

  async function pause (): Promise<void> {
    if (!isStopping) await Promise.all([...queues].map(name => boss.offWork(name)))
  }
}

interface Database {
  readonly isOurs?: boolean
  readonly pool?: unknown
  close (): Promise<void>
}

/**
 * Returns the database that pg-boss has opened. `getDb()` is not documented. Public alternative: none. Without it,
 * `force` ends no connection.
 */
function databaseOf (boss: PgBoss): Database | undefined {
  const database = (property(boss, 'getDb') as Method).call(boss) as Database
  return database.isOurs === true && database.pool !== undefined ? database : undefined
}
