/** Server-sent events and WebSockets. The plugin ends both when the service drains. */
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyWebSocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import { sse } from 'fastify-shutdown'

/** Routes `/stream` and `/ws`. */
export async function streamRoutes (app: FastifyInstance): Promise<void> {
  await app.register(fastifyWebSocket, { options: { maxPayload: 64 * 1024 } })

  app.get('/stream', async (_request, reply) => {
    return reply
      .header('content-type', 'text/event-stream')
      .header('cache-control', 'no-store')
      .send(app.shutdown.stream(ticks(20, 500), { end: sse({ data: { type: 'end', reason: 'shutdown' } }) }))
  })

  // Echoes each message. The plugin closes the WebSocket.
  app.get('/ws', { websocket: true, schema: { hide: true } }, socket => {
    socket.on('message', message => socket.send(message))
  })
}

/** Server-sent events, one every `ms` milliseconds. */
async function * ticks (count: number, ms: number): AsyncGenerator<string> {
  for (let tick = 1; tick <= count; tick++) {
    yield `data: ${JSON.stringify({ type: 'tick', tick })}\n\n`
    await sleep(ms)
  }
}
