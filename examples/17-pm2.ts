/**
 * Lesson 17: PM2. With `wait_ready` it waits for the message `ready`, and with `shutdown_with_message` it sends the
 * message `shutdown`. The plugin does both, so the app has no code for it. Here, the parent process acts as PM2 does.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { fork } from 'node:child_process'
import { once } from 'node:events'

async function app (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    onReport: ({ reason, outcome }) => console.log(reason.kind, reason.detail, outcome)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
}

async function pm2 (): Promise<void> {
  const child = fork(__filename, { env: { ...process.env, pm_id: '0', kill_timeout: '5000' } })
  const [message] = await once(child, 'message')
  console.log('the app is', message)
  child.send('shutdown')
  const [code] = await once(child, 'exit')
  console.log('exit code', code)
}

void (process.env['pm_id'] === undefined ? pm2() : app())
