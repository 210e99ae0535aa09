/**
 * Lesson 27: Sentry. Its events of the shutdown itself are sent before the process ends, because it closes after all
 * other resources. This transport prints the events; without it, Sentry sends them to the service in `dsn`.
 */
import * as Sentry from '@sentry/node'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

Sentry.init({
  dsn: 'http://key@127.0.0.1/1',
  defaultIntegrations: false,
  transport: options => Sentry.createTransport(options, async () => {
    await sleep(100)
    console.log('the event is sent')
    return { statusCode: 200 }
  })
})

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    resources: {
      sentry: { client: Sentry },
      cache: {
        close () {
          Sentry.captureMessage('the cache was not empty')
          console.log('the cache has closed')
        }
      }
    }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  process.kill(process.pid, 'SIGTERM')
}

void main()
