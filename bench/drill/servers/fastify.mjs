/** Bare Fastify without a signal handler. */
import Fastify from 'fastify'
import { answer } from './answer.mjs'

const app = Fastify()
app.get('/', answer)
await app.listen({ port: 0, host: '127.0.0.1' })
