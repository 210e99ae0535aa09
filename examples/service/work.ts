/** Requests and tasks that take their time, and how each ends when the service drains. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Database } from './database'

/** Routes `/fast`, `/slow` and `/background`. */
export async function workRoutes (app: FastifyInstance, { database }: { readonly database: Database }): Promise<void> {
  app.get('/fast', async () => {
    await sleep(1_000)
    return { finished: true }
  })

  // Ends early when draining begins: a partial answer now is better than none in ten seconds.
  app.get('/slow', async () => {
    const { signal } = app.shutdownState
    await sleep(10_000, undefined, { signal }).catch(() => {})
    return { finished: !signal.aborted }
  })

  // Answers at once and continues to work. Draining waits for it because of `task`.
  app.post('/background', async (_request, reply) => {
    const id = randomUUID()
    void app.shutdown.task('parcel', signal => packParcel(database, id, signal))
    return reply.code(202).send({ id })
  })
}

/** Ten steps. When the signal aborts, it finishes the current step and saves its progress. */
async function packParcel (database: Database, id: string, signal: AbortSignal): Promise<void> {
  let steps = 0
  while (steps < 10 && !signal.aborted) {
    await sleep(200)
    steps++
  }
  const state = steps === 10 ? 'finished' : 'saved'
  await database.query('insert into jobs (id, steps, state) values ($1, $2, $3)', [id, steps, state])
}
