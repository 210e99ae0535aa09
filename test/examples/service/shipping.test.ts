/** The service that is called dies, is slow, asks for patience, and returns. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { startExample, translateExample, until } from '../../helpers/example-service'
import { hasPostgres, startPostgres, unless } from '../../helpers/services'

t.test('a call to another service', { ...unless('postgres', hasPostgres()), timeout: 90_000 }, async t => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const directory = translateExample(t)
  const env = { DATABASE_URL: `postgres://postgres@127.0.0.1:${postgres.port}/postgres`, SHIPPING_TOKEN: 'shipping-secret', BREAKER_FAILURES: '3', BREAKER_RESET: '1000' }

  /** What the other service does with a request. */
  type Behaviour = (request: http.IncomingMessage, response: http.ServerResponse) => void
  const prices: Behaviour = (_request, response) => { response.setHeader('content-type', 'application/json').end('{"price":5}') }
  const away = (retryAfter: string): Behaviour => (_request, response) => { response.writeHead(503, { 'retry-after': retryAfter }).end() }

  async function startShipping (): Promise<{ readonly port: number, readonly times: number[], behave: Behaviour, die(): Promise<void>, listen(): Promise<void> }> {
    const server = http.createServer((request, response) => {
      shipping.times.push(performance.now())
      shipping.behave(request, response)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const shipping = {
      port,
      times: [] as number[],
      behave: prices,
      async die () {
        server.close()
        server.closeAllConnections()
        await once(server, 'close')
      },
      async listen () {
        server.listen(port, '127.0.0.1')
        await once(server, 'listening')
      }
    }
    t.teardown(() => { server.close(); server.closeAllConnections() })
    return shipping
  }

  t.test('dies and returns: the breaker opens, sends no request, and closes again', async t => {
    const shipping = await startShipping()
    let authorization: string | undefined
    shipping.behave = (request, response) => { authorization = request.headers.authorization; prices(request, response) }
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}/v1` })
    const call = async (): Promise<any> => await service.send('GET', '/shipping/a%20book') // any: an answer of the service
    t.match(await call(), { status: 200, body: { price: 5 } })
    t.equal(authorization, 'Bearer shipping-secret')

    await shipping.die()
    t.match(await call(), { status: 502, body: { code: 'SHIPPING_FAILED' } })
    t.equal((await call()).status, 502)
    t.match(await call(), { status: 503, body: { code: 'SHIPPING_CIRCUIT_OPEN' } }, 'the third failure opens it')

    await shipping.listen()
    shipping.times.length = 0
    const refused = await call()
    t.match(refused, { status: 503, body: { code: 'SHIPPING_CIRCUIT_OPEN' } })
    t.equal(refused.headers.get('retry-after'), '1')
    t.strictSame(shipping.times, [], 'no request reaches the other service')

    await until(async () => (await call()).status === 200)
    t.match(await Promise.all([call(), call(), call()]), [{ status: 200 }, { status: 200 }, { status: 200 }])
    t.notMatch(service.child.lines.join('\n'), 'shipping-secret')
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('still away when the breaker tries again: it opens at once', async t => {
    const shipping = await startShipping()
    shipping.behave = (_request, response) => { response.writeHead(500).end() }
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}` })
    const call = async (): Promise<string> => (await service.send('GET', '/shipping/a')).body.code
    for (let count = 0; count < 3; count++) await call()
    t.equal(await call(), 'SHIPPING_CIRCUIT_OPEN')
    const before = shipping.times.length
    await until(async () => { await call(); return shipping.times.length > before })
    t.equal(await call(), 'SHIPPING_CIRCUIT_OPEN')
    t.equal(shipping.times.length, before + 1, 'one request tried')
  })

  t.test('asks for patience: the retry comes after Retry-After, and not before', async t => {
    const shipping = await startShipping()
    shipping.behave = (request, response) => { (shipping.times.length === 1 ? away('1') : prices)(request, response) }
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}`, SHIPPING_TIMEOUT: '10000' })
    t.match(await service.send('GET', '/shipping/a'), { status: 200, body: { price: 5 } })
    const [first, second] = shipping.times as [number, number]
    t.ok(second - first >= 990, `${second - first} ms`)
  })

  t.test('asks for more patience than the call has: one request, and 504 at the timeout', async t => {
    const shipping = await startShipping()
    shipping.behave = (request, response) => { setTimeout(() => away('30')(request, response), 1_500) }
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}`, SHIPPING_TIMEOUT: '2000' })
    const begin = performance.now()
    t.match(await service.send('GET', '/shipping/a'), { status: 504, body: { code: 'SHIPPING_TIMEOUT' } })
    // Without an end by the signal, it would be 3 500 ms: RetryAgent waits for its retry.
    t.ok(performance.now() - begin < 3_200, `${performance.now() - begin} ms`)
    // When the service stops, no retry is left that could still be sent.
    await service.stop()
    t.equal(shipping.times.length, 1)
  })

  t.test('is silent: 504 at the timeout, and the breaker counts it', async t => {
    const shipping = await startShipping()
    shipping.behave = () => {}
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}`, SHIPPING_TIMEOUT: '300' })
    const codes = []
    for (let count = 0; count < 4; count++) codes.push((await service.send('GET', '/shipping/a')).body.code)
    t.strictSame(codes, ['SHIPPING_TIMEOUT', 'SHIPPING_TIMEOUT', 'SHIPPING_CIRCUIT_OPEN', 'SHIPPING_CIRCUIT_OPEN'])
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('a client that leaves does not block the breaker', async t => {
    const shipping = await startShipping()
    shipping.behave = () => {}
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}`, BREAKER_FAILURES: '1', SHIPPING_TIMEOUT: '5000' })
    const leaving = new AbortController()
    const request = fetch(`${service.url}/shipping/a`, { signal: leaving.signal })
    await until(async () => shipping.times.length === 1)
    leaving.abort()
    await t.rejects(request)
    shipping.behave = prices
    await until(async () => (await service.send('GET', '/shipping/a')).status === 200)
  })

  t.test('an unknown item is 404, and no failure that the breaker counts', async t => {
    const shipping = await startShipping()
    shipping.behave = (_request, response) => { response.writeHead(404).end() }
    const service = await startExample(t, directory, { ...env, SHIPPING_URL: `http://127.0.0.1:${shipping.port}`, BREAKER_FAILURES: '1' })
    for (let count = 0; count < 3; count++) t.equal((await service.send('GET', '/shipping/a')).status, 404)
  })

  t.test('the OpenAPI document has the routes, and without SHIPPING_URL there is no route for it', async t => {
    const service = await startExample(t, directory, env)
    t.equal((await service.send('GET', '/shipping/a')).status, 404)
    const { body: { openapi, paths } } = await service.send('GET', '/openapi.json')
    t.match(openapi, /^3\./)
    t.match(Object.keys(paths).filter(path => !path.startsWith('/health')).sort(), ['/', '/background', '/fast', '/login', '/me', '/orders', '/orders/{id}', '/orders/{id}/receipt', '/slow', '/status', '/stream'])
  })
})
