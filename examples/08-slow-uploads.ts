/**
 * Lesson 8: an upload that takes longer than other requests. Its route has a category with a longer time, and its body
 * arrives whole, although the shutdown begins in the middle of it.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { request } from 'node:http'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    timeouts: { requests: 200 },
    categories: { upload: 5_000 }
  })
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload))
  app.post('/upload', { config: { shutdown: { category: 'upload' } } }, async ({ body }) => {
    process.kill(process.pid, 'SIGTERM')
    let bytes = 0
    for await (const chunk of body as Readable) bytes += chunk.length
    return { bytes }
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const headers = { 'content-type': 'application/octet-stream' }
  const upload = request(`${address}/upload`, { method: 'POST', headers })
  upload.on('response', async response => console.log(response.statusCode, await text(response)))
  for (let part = 0; part < 6; part++) {
    upload.write('1234567890')
    await sleep(100)
  }
  upload.end()
}

void main()
