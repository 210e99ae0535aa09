/** Orders: written to PostgreSQL, read through the cache. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Order, OrderCache } from './cache'
import type { Database } from './database'
import type { Receipts } from './receipts'

export interface OrderOptions {
  readonly database: Database
  readonly cache: OrderCache
  readonly receipts: Receipts
}

const id = { type: 'string', format: 'uuid' } as const
const item = { type: 'string', maxLength: 200 } as const
const order = { type: 'object', required: ['id', 'item'], properties: { id, item } } as const
const onlyId = { type: 'object', properties: { id } } as const
const readSchema = { params: onlyId, response: { 200: order } }
const writeSchema = { body: order, response: { 201: onlyId } }
const receiptSchema = { params: onlyId, response: { 202: onlyId } }

const insert = 'insert into orders (id, item) values ($1, $2) on conflict (id) do nothing'

/** Routes below `/orders`. */
export async function orderRoutes (app: FastifyInstance, { database, cache, receipts }: OrderOptions): Promise<void> {
  // The client chooses the id. So it may send an order again whose answer was lost, and it is written once.
  app.post<{ Body: Order }>('/orders', { schema: writeSchema }, async (request, reply) => {
    const { id, item } = request.body
    await sleep(300) // the payment
    // The request is about to be cut, or its client has left: do not write an order that cannot be acknowledged.
    request.shutdownSignal.throwIfAborted()
    const { rowCount } = await database.query(insert, [id, item])
    if (rowCount === 0 && (await cache.find(id))?.item !== item) {
      return reply.code(409).send(new Error('There is another order with this id'))
    }
    await cache.store({ id, item })
    return reply.code(201).send({ id })
  })

  app.get<{ Params: { id: string } }>('/orders/:id', { schema: readSchema }, async (request, reply) => {
    const found = await cache.find(request.params.id)
    return found ?? reply.code(404).send(new Error('There is no such order'))
  })

  // 202 means: it is in the queue, and some replica will write it.
  app.post<{ Params: { id: string } }>('/orders/:id/receipt', { schema: receiptSchema }, async (request, reply) => {
    const { id } = request.params
    if (await cache.find(id) === null) return reply.code(404).send(new Error('There is no such order'))
    await receipts.add(id)
    return reply.code(202).send({ id })
  })
}
