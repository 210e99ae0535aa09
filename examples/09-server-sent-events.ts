/**
 * Lesson 9: an endless stream of events. When draining begins, the client gets an end marker with the time after which
 * it should connect again. So it can distinguish a restart from a failure.
 */
import Fastify from 'fastify'
import gracefulShutdown, { sse } from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function * events (): AsyncGenerator<string> {
  for (let count = 1; ; count++) {
    yield `data: ${count}\n\n`
    await sleep(50)
  }
}

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown)
  app.get('/events', async (_request, reply) => reply
    .type('text/event-stream')
    .send(app.shutdown.stream(events(), { end: sse({ data: 'bye', retry: 2_000 }) })))
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const response = await fetch(`${address}/events`)
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    if (text === '') process.kill(process.pid, 'SIGTERM') // after the first event
    text += chunk
  }
  const lines = text.trim().split('\n')
  console.log('first:', lines[0])
  console.log('last:', lines.slice(-3).join(', '))
}

void main()
