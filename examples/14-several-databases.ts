/**
 * Lesson 14: two PostgreSQL databases and a Redis, which other plugins create. The plugin adopts their clients, and
 * only the order is declared. It needs both servers: `POSTGRES_URL` and `REDIS_URL`, else local ones.
 */
import fastifyPostgres from '@fastify/postgres'
import fastifyRedis from '@fastify/redis'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'

const postgres = process.env['POSTGRES_URL'] ?? 'postgres://postgres:postgres@127.0.0.1:5432/postgres'
const redis = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    resources: {
      'postgres:reports': { dependsOn: ['postgres:orders'] },
      redis: { dependsOn: ['postgres:orders', 'postgres:reports'], timeout: 3_000 }
    }
  })
  await app.register(fastifyPostgres, { name: 'orders', connectionString: postgres })
  await app.register(fastifyPostgres, { name: 'reports', connectionString: postgres })
  await app.register(fastifyRedis, { url: redis })
  await app.ready()

  const { resources, criticalPath } = await app.shutdown.start('lesson 14')
  for (const { name, outcome } of resources) console.log(name, outcome)
  console.log('order:', criticalPath.join(' -> '))
}

void main()
