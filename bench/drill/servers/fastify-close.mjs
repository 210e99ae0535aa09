/** Bare Fastify that closes on SIGTERM. */
import Fastify from 'fastify'
import { answer } from './answer.mjs'

const app = Fastify()
app.get('/', answer)
process.once('SIGTERM', () => app.close())
await app.listen({ port: 0, host: '127.0.0.1' })
