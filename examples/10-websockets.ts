/**
 * Lesson 10: WebSockets. Each client gets a last message, and then a close frame with code 1001. Most libraries connect
 * again after this code, to another instance.
 */
import fastifyWebSocket from '@fastify/websocket'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { WebSocket } from 'ws'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    delay: 0,
    webSocketMessage: JSON.stringify({ type: 'restart' })
  })
  await app.register(fastifyWebSocket)
  app.get('/chat', { websocket: true }, socket => {
    socket.on('message', message => socket.send(`echo ${String(message)}`))
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const client = new WebSocket(`${address.replace('http', 'ws')}/chat`)
  client.on('open', () => client.send('hello'))
  client.on('message', message => {
    console.log(String(message))
    if (String(message) === 'echo hello') process.kill(process.pid, 'SIGTERM')
  })
  client.on('close', code => console.log('close code', code))
}

void main()
