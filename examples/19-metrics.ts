/**
 * Lesson 19: metrics for Prometheus. The route stays available while the server drains. A process that has exited is no
 * longer scraped, so the last values can be pushed, or be written to a file: see docs/metrics.md.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { prometheus } from 'fastify-shutdown/prometheus'
import { Registry } from 'prom-client'

async function main (): Promise<void> {
  const registry = new Registry()
  const app = Fastify()
  await app.register(gracefulShutdown, {
    exporters: [prometheus({ registry, labels: { app: 'shop' } })],
    resources: { database: { close: () => {} } },
    onReport: async () => {
      const lines = (await registry.metrics()).split('\n')
      console.log(lines.find(line => line.startsWith('fastify_shutdown_resource_duration_seconds_count')))
    }
  })
  app.get('/metrics', { config: { shutdown: { exempt: true } } }, async (_request, reply) => {
    return await reply.type(registry.contentType).send(await registry.metrics())
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const text = await (await fetch(`${address}/metrics`)).text()
  console.log(text.split('\n').find(line => line.startsWith('fastify_shutdown_phase{') && line.endsWith(' 1')))
  process.kill(process.pid, 'SIGTERM')
}

void main()
