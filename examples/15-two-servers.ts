/**
 * Lesson 15: two Fastify servers in one process, one for customers and one for administrators. A signal stops both, and
 * the process ends when the last one has closed.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function serve (name: string, ms: number): Promise<string> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    onReport: ({ outcome }) => console.log(name, 'has closed:', outcome)
  })
  app.get('/', async () => {
    await sleep(ms)
    return `${name} answers`
  })
  return await app.listen({ port: 0, host: '127.0.0.1' })
}

async function main (): Promise<void> {
  const addresses = [await serve('customers', 600), await serve('administrators', 200)]
  process.on('exit', code => console.log('exit code', code))
  const answers = addresses.map(async address => await (await fetch(address)).text())
  await sleep(100)
  process.kill(process.pid, 'SIGTERM')
  for (const answer of answers) console.log(await answer)
}

void main()
