/** Fastify with the plugin, and a lame-duck of one second. */
import Fastify from 'fastify'
import gracefulShutdown from '../../../dist/lib/index.js'
import { answer } from './answer.mjs'

const app = Fastify({ return503OnClosing: false })
await app.register(gracefulShutdown.default ?? gracefulShutdown, { delay: 1_000 })
app.get('/', answer)
await app.listen({ port: 0, host: '127.0.0.1' })
