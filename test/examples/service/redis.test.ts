/** Redis dies, freezes and returns. The service serves without it, and uses it again. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t from 'tap'
import { startExample, translateExample, until, type Answer, type Example } from '../../helpers/example-service'
import { freePort, hasPostgres, hasRedis, startPostgres, startRedis, unless } from '../../helpers/services'

const skip = unless('redis', hasRedis()).skip || unless('postgres', hasPostgres()).skip

t.test('the cache and the queue', { skip, timeout: 120_000 }, async t => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const directory = translateExample(t)
  const DATABASE_URL = `postgres://postgres@127.0.0.1:${postgres.port}/postgres`

  const order = async ({ send }: Example, id: string = randomUUID()): Promise<string> => {
    const { status } = await send('POST', '/orders', { body: { id, item: 'a book' } })
    if (status !== 201) throw new Error(`POST /orders answers ${status}`)
    return id
  }
  const receipt = ({ send }: Example, id: string): Promise<Answer> => send('POST', `/orders/${id}/receipt`)

  t.test('Redis dies and returns', async t => {
    let redis = await startRedis()
    t.teardown(() => redis.stop())
    const { port } = redis
    const service = await startExample(t, directory, { DATABASE_URL, REDIS_URL: `redis://127.0.0.1:${port}` })
    const client = new Redis(port, { retryStrategy: () => 50, maxRetriesPerRequest: null })
    client.on('error', () => {})
    t.teardown(() => client.disconnect())

    const first = await order(service)
    t.equal(JSON.parse(await client.get(`order~${first}`) ?? 'null')?.item, 'a book', 'the order is in Redis')
    t.equal((await receipt(service, first)).status, 202)

    await redis.kill()
    await service.logged('Redis is away')
    t.match(await service.send('GET', `/orders/${first}`), { status: 200, body: { id: first, item: 'a book' } })
    const second = await order(service)
    t.match(await service.send('GET', `/orders/${second}`), { status: 200, body: { id: second } })
    const refused = await receipt(service, second)
    t.match(refused, { status: 503, body: { code: 'QUEUE_AWAY' } }, 'a job that is not safe is not accepted')
    t.equal(refused.headers.get('retry-after'), '1')
    t.equal((await service.send('GET', '/health/ready')).status, 200, 'the service is ready without Redis')
    t.equal(service.log().filter(({ msg }) => msg.includes('Redis is away')).length, 1, 'one line, not one for each attempt')

    redis = await startRedis({ port })
    await service.logged('Redis is back')
    await until(async () => (await receipt(service, second)).status === 202)
    const third = await order(service)
    t.ok(await client.get(`order~${third}`), 'new orders are in Redis again')
    // The worker is back, too: the receipt counts when its job is completed.
    await until(async () => (await client.zscore('bull:receipts:completed', `receipt-${second}`)) !== null)
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('a frozen Redis delays one request, and not each', async t => {
    const redis = await startRedis()
    t.teardown(() => redis.stop())
    const service = await startExample(t, directory, { DATABASE_URL, REDIS_URL: `redis://127.0.0.1:${redis.port}` })
    const ids = await Promise.all(Array.from({ length: 5 }, () => order(service)))
    redis.freeze()
    const [first] = ids
    t.equal((await service.send('GET', `/orders/${first}`)).status, 200, 'this request waits for Redis, and then asks the database')
    const begin = performance.now()
    for (const id of ids) t.equal((await service.send('GET', `/orders/${id}`)).status, 200)
    // With a wait for each, it would be five times the 500 ms of `commandTimeout`.
    t.ok(performance.now() - begin < 2_000, `${performance.now() - begin} ms`)
    redis.thaw()
    const last = await order(service)
    t.equal((await service.send('GET', `/orders/${last}`)).status, 200)
    await service.stop()
  })

  t.test('the service starts without Redis, and stops without it', async t => {
    const port = await freePort()
    const service = await startExample(t, directory, { DATABASE_URL, REDIS_URL: `redis://127.0.0.1:${port}` })
    const id = await order(service)
    t.equal((await service.send('GET', `/orders/${id}`)).status, 200)
    const redis = await startRedis({ port })
    t.teardown(() => redis.stop())
    await service.logged('Redis is back')
    await until(async () => (await receipt(service, id)).status === 202)
    await redis.kill()
    await service.logged('connect ECONNREFUSED')
    // BullMQ's worker never closes while Redis is away, so it is forced.
    t.match(await service.stop(), { code: 0, outcome: 'forced' })
  })

  t.test('without REDIS_URL, receipts are tasks that the drain waits for', async t => {
    const service = await startExample(t, directory, { DATABASE_URL })
    const id = await order(service)
    t.equal((await receipt(service, id)).status, 202)
    t.equal((await receipt(service, randomUUID())).status, 404)
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('a refused password is not in the log, and neither is a right one', async t => {
    const redis = await startRedis({ password: 'right-secret' })
    t.teardown(() => redis.stop())
    const service = await startExample(t, directory, { DATABASE_URL, REDIS_URL: `redis://:wrong-secret@127.0.0.1:${redis.port}`, LOG_LEVEL: 'trace' })
    await service.logged('WRONGPASS')
    t.notMatch(JSON.stringify((await service.send('GET', '/status')).body), /secret@|-secret/)
    await service.stop()
    t.notMatch(service.child.lines.join('\n'), 'wrong-secret')
  })

  t.test('an order that is sent twice is written once, and another order with its id is refused', async t => {
    const service = await startExample(t, directory, { DATABASE_URL })
    const id = await order(service)
    await order(service, id)
    t.equal((await service.send('POST', '/orders', { body: { id, item: 'another book' } })).status, 409)
    t.equal((await service.send('GET', `/orders/${randomUUID()}`)).status, 404)
    await service.stop()
  })
})
