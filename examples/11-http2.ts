/**
 * Lesson 11: HTTP/2. The session gets a GOAWAY frame, its open streams are answered, and the client opens new ones on
 * another connection.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { connect } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify({ http2: true })
  await app.register(gracefulShutdown)
  app.get('/slow', async () => {
    process.kill(process.pid, 'SIGTERM')
    await sleep(300)
    return { finished: true }
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const session = connect(address)
  session.on('goaway', code => console.log('GOAWAY, code', code))
  session.on('close', () => console.log('the session is closed'))
  const stream = session.request({ ':path': '/slow' })
  stream.on('response', headers => console.log('status', headers[':status']))
  stream.on('data', (data: Buffer) => console.log(data.toString()))
}

void main()
