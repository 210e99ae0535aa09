import cluster, { type Worker } from 'node:cluster'
import { EventEmitter, once } from 'node:events'
import http from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { typescript } from '../helpers/children'

cluster.setupPrimary({ exec: join(__dirname, 'fixtures/cluster-worker.ts'), execArgv: typescript })

interface RunningWorker {
  readonly worker: Worker
  /** Sends a request on a kept connection. @returns its status, and whether the connection was `new` or `reused` */
  get (): Promise<string>
  /** Waits for a message with this property. @returns the property */
  received (name: string): Promise<unknown>
}

async function startWorker (t: Test): Promise<RunningWorker> {
  const worker = cluster.fork()
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(async () => {
    agent.destroy()
    if (!worker.isDead()) worker.process.kill('SIGKILL')
  })
  const [{ port }] = await once(worker, 'listening')
  const messages: Array<Record<string, unknown>> = []
  const arrived = new EventEmitter()
  worker.on('message', message => {
    messages.push(message)
    arrived.emit('message')
  })
  return {
    worker,
    async received (name) {
      for (;;) {
        const found = messages.find(message => name in message)
        if (found !== undefined) return found[name]
        await once(arrived, 'message')
      }
    },
    get: () => new Promise((resolve, reject) => {
      const request = http.get({ port, host: '127.0.0.1', agent }, response => {
        response.resume().once('end', () => resolve(`${response.statusCode} ${request.reusedSocket ? 'reused' : 'new'}`))
      }).once('error', reject)
    })
  }
}

for (const [how, disconnect] of [
  ['the primary disconnects it', (worker: Worker) => { worker.disconnect() }],
  ['it disconnects itself', (worker: Worker) => { worker.send('disconnect yourself') }]
] as const) {
  t.test(`a worker serves its keep-alive connections until its shutdown is over when ${how}`, async t => {
    const { worker, get, received } = await startWorker(t)
    t.equal(await get(), '200 new')
    disconnect(worker)
    t.strictSame(await received('reason'), { kind: 'message', detail: 'disconnect' })
    t.equal(await get(), '200 reused')
    t.ok(worker.isConnected())
    worker.process.send('finish')
    const [code, signal] = await once(worker, 'exit') as [number, string | null]
    t.strictSame([code, signal], [0, null])
    t.equal(worker.exitedAfterDisconnect, true)
  })
}

t.test("the message 'shutdown' starts a shutdown", async t => {
  const { worker, received } = await startWorker(t)
  worker.send('shutdown')
  t.strictSame(await received('reason'), { kind: 'message', detail: 'shutdown' })
})

t.test('Node disconnects the worker as usual after the connection is closed', async t => {
  const { worker, get, received } = await startWorker(t)
  t.equal(await get(), '200 new')
  worker.send('close')
  await received('closed')
  worker.disconnect()
  const [code] = await once(worker, 'exit')
  t.equal(code, 0)
})
