/** PostgreSQL restarts. The service answers 503 meanwhile, and recovers. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { logged, spawnExample, startExample, translateExample, until, type Answer } from '../../helpers/example-service'
import { hasPostgres, restartPostgres, startPostgres, unless } from '../../helpers/services'

t.test('PostgreSQL restarts', { ...unless('postgres', hasPostgres()), timeout: 90_000 }, async t => {
  let postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const service = await startExample(t, translateExample(t), { DATABASE_URL: `postgres://postgres@127.0.0.1:${postgres.port}/postgres` })
  const order = (id: string = randomUUID()): Promise<Answer> => service.send('POST', '/orders', { body: { id, item: 'a book' } })
  const ready = async (): Promise<number> => (await service.send('GET', '/health/ready')).status
  t.equal((await order()).status, 201)

  for (const end of ['interrupt', 'kill'] as const) {
    t.test(`by ${end}, under load: each answer is 201 or 503, and no acknowledged order is lost`, async t => {
      const acknowledged: string[] = []
      const statuses: number[] = []
      const over = new AbortController()
      const load = Promise.all(Array.from({ length: 10 }, async (_, index) => {
        await sleep(20 * index)
        while (!over.signal.aborted) {
          const id = randomUUID()
          const { status, headers } = await order(id)
          statuses.push(status)
          if (status === 201) acknowledged.push(id)
          else if (headers.get('retry-after') === null) t.fail('a 503 without Retry-After')
        }
      }))
      await until(async () => acknowledged.length > 10)
      await postgres[end]()
      await until(async () => statuses.includes(503))
      await until(async () => await ready() === 503)
      postgres = await restartPostgres(postgres)
      const before = acknowledged.length
      await until(async () => acknowledged.length > before + 10)
      await until(async () => await ready() === 200)
      over.abort()
      await load
      t.strictSame([...new Set(statuses)].sort(), [201, 503])
      const found = await Promise.all(acknowledged.map(async id => (await service.send('GET', `/orders/${id}`)).status))
      t.strictSame([...new Set(found)], [200])
    })
  }

  t.test('a frozen one costs the time of a query, and the service still stops', async t => {
    const id = randomUUID()
    postgres.freeze()
    t.teardown(() => postgres.thaw())
    const begin = performance.now()
    t.match(await service.send('GET', `/orders/${id}`), { status: 503, body: { code: 'DATABASE_AWAY' } })
    const elapsed = performance.now() - begin
    // query_timeout is 6 s, and a new connection has 2 s.
    t.ok(elapsed < 9_000, `${elapsed} ms`)
    const { code, outcome } = await service.stop()
    t.equal(code, 0)
    t.ok(outcome === 'clean' || outcome === 'forced', String(outcome))
  })
})

t.test('the start waits for a PostgreSQL that starts later', { ...unless('postgres', hasPostgres()), timeout: 60_000 }, async t => {
  const first = await startPostgres()
  await first.kill()
  const directory = translateExample(t)
  const child = spawnExample(t, directory, { DATABASE_URL: `postgres://postgres@127.0.0.1:${first.port}/postgres` })
  const started = startExample(t, directory, {}, child)
  await logged(child, 'the database is not reachable yet')
  const postgres = await restartPostgres(first)
  t.teardown(() => postgres.stop())
  const service = await started
  t.equal((await service.send('GET', '/health/ready')).status, 200)
  t.match(await service.stop(), { code: 0, outcome: 'clean' })
})
