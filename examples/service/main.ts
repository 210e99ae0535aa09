/**
 * Starts the service. `DATABASE_URL` is required; `REDIS_URL`, `HOST`, `PORT` and `SHUTDOWN_DELAY` (milliseconds) are
 * optional.
 */
import { buildService } from './app'

const { DATABASE_URL, REDIS_URL, HOST = '127.0.0.1', PORT = '3000', SHUTDOWN_DELAY } = process.env

async function main (): Promise<void> {
  if (DATABASE_URL === undefined) throw new Error('DATABASE_URL is not set')
  const app = await buildService({
    databaseUrl: DATABASE_URL,
    redisUrl: REDIS_URL,
    shutdown: SHUTDOWN_DELAY === undefined ? {} : { delay: Number(SHUTDOWN_DELAY) }
  })
  // One address: `localhost`, the default, can be two.
  await app.listen({ host: HOST, port: Number(PORT) })
}

main().catch(error => {
  console.error(error)
  process.exitCode = 1
})
