/**
 * Lesson 18: the probes of Kubernetes. From lame-duck on, readiness is 503, so that no new traffic comes. Liveness
 * stays 200, so that the kubelet does not kill a server that drains.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  let databaseAnswers = true
  const app = Fastify()
  await app.register(gracefulShutdown, {
    delay: 500,
    probes: { checks: { database: () => databaseAnswers } }
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  await probe('running')
  databaseAnswers = false
  await sleep(600) // probes within 500 ms share one result
  await probe('without its database')
  process.kill(process.pid, 'SIGTERM')
  await new Promise<void>(resolve => { app.shutdown.on('lame-duck', () => resolve()) })
  await probe('lame-duck')

  async function probe (when: string): Promise<void> {
    const fetched = ['live', 'ready'].map(async name => await fetch(`${address}/health/${name}`))
    const [live, ready] = await Promise.all(fetched)
    console.log(`${when}: live ${live!.status}, ready ${ready!.status}`)
  }
}

void main()
