/**
 * A call to another service, and what limits it: a timeout, a few retries that wait as long as Retry-After says, and a
 * circuit breaker. While the breaker is open, requests get a 503 at once and the other service gets none.
 */
import createError from '@fastify/error'
import circuitBreaker from '@fastify/circuit-breaker'
import type { FastifyInstance } from 'fastify'
import { Agent, RetryAgent } from 'undici'
import type { Config } from './variables'

const ShippingError = createError('SHIPPING_FAILED', 'The shipping service has failed: %s', 502)
const ShippingTimeoutError = createError('SHIPPING_TIMEOUT', 'The shipping service does not answer in time', 504)

const params = { type: 'object', properties: { item: { type: 'string', minLength: 1, maxLength: 200 } } } as const
const price = { type: 'object', required: ['price'], properties: { price: { type: 'number' } } } as const

const circuitOpen = {
  statusCode: 503, code: 'SHIPPING_CIRCUIT_OPEN', error: 'Service Unavailable', message: 'The shipping service is away'
}

/** Route `GET /shipping/:item`. Without SHIPPING_URL there is no such route. */
export async function shippingRoutes (app: FastifyInstance, { config }: { readonly config: Config }): Promise<void> {
  const { SHIPPING_URL, SHIPPING_TOKEN, SHIPPING_TIMEOUT } = config
  if (SHIPPING_URL === undefined) return app.log.warn('SHIPPING_URL is not set: there is no route /shipping/:item')

  const agent = new Agent({
    connections: 20, connect: { timeout: 1_000 }, headersTimeout: SHIPPING_TIMEOUT, bodyTimeout: SHIPPING_TIMEOUT
  })
  app.shutdown.resource('shipping', { client: agent, timeout: 3_000 })
  const client = new RetryAgent(agent, {
    maxRetries: 2,
    minTimeout: 50,
    // A longer Retry-After is never cut short: the whole call has timed out by then.
    maxTimeout: SHIPPING_TIMEOUT,
    methods: ['GET'],
    statusCodes: [429, 502, 503, 504]
  })

  await app.register(circuitBreaker, {
    threshold: config.BREAKER_FAILURES,
    resetTimeout: config.BREAKER_RESET,
    timeout: SHIPPING_TIMEOUT * 2, // our own timeout comes first, and its 504 counts as a failure, too
    onCircuitOpen: async (_request, reply) => {
      const seconds = Math.ceil(config.BREAKER_RESET / 1_000)
      reply.code(503).header('retry-after', seconds).type('application/json; charset=utf-8')
      return JSON.stringify(circuitOpen)
    }
  })

  app.get<{ Params: { item: string } }>('/shipping/:item', {
    schema: { params, response: { 200: price } },
    preHandler: app.circuitBreaker()
  }, async (request, reply) => {
    const { item } = request.params
    // The call also ends if the client has left, or if the request is about to be cut.
    const signal = AbortSignal.any([AbortSignal.timeout(SHIPPING_TIMEOUT), request.shutdownSignal])
    try {
      const found = await Promise.race([fetchPrice(item, signal), aborted(signal)])
      if (found === null) return reply.code(404).send(new Error('There is no such item'))
      return found
    } catch (error) {
      if (signal.aborted) throw new ShippingTimeoutError()
      throw new ShippingError((error as Error).message)
    }
  })

  /** Returns `null` for an unknown item, because that is no failure of the other service. */
  async function fetchPrice (item: string, signal: AbortSignal): Promise<unknown> {
    const url = new URL(`prices/${encodeURIComponent(item)}`, SHIPPING_URL!.replace(/\/?$/, '/'))
    const { statusCode, body } = await client.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: 'GET',
      headers: SHIPPING_TOKEN === undefined ? {} : { authorization: `Bearer ${SHIPPING_TOKEN}` },
      signal
    })
    if (statusCode === 200) return await body.json()
    await body.dump() // so that its connection is free again
    if (statusCode === 404) return null
    throw new Error(`status ${statusCode}`)
  }
}

/** Rejects when the signal aborts. RetryAgent itself ignores the signal while it waits for a retry (undici 7). */
function aborted (signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}
