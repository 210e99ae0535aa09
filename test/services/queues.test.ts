/** BullMQ's worker, queue and queue events as resources, on a Redis or PostgreSQL that is healthy, busy, frozen or dead. */
import { Queue, QueueEvents, Worker, createPostgresBackend } from 'bullmq'
import type { Job, Processor } from 'bullmq'
import t from 'tap'
import { adapterFor, bullmqWorker } from '../../lib/resources/adapters/index'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { OpenedOnOwnServer } from '../helpers/resource-contract'
import { findServer, hasPostgres, hasRedis, startPostgres, startRedis, unless } from '../helpers/services'
import type { OwnServer, Server } from '../helpers/services'
import { ignoreRecordedSockets } from '../helpers/sockets'

// Replaced if the server belongs to the test.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }
let made = 0

/** BullMQ's options for one kind of server. Its own types for the two kinds are not compatible. */
interface Kind {
  readonly name: string
  readonly start: () => Promise<OwnServer>
  options (server: Server): { connection: any } // any: ConnectionOptions of Redis or of PostgreSQL
  readonly backend: any // any: the factory of a backend, or none for Redis
}

const redis: Kind = {
  name: 'Redis',
  start: startRedis,
  options: ({ host, port }) => ({ connection: { host, port, retryStrategy: () => 100 } }),
  backend: undefined
}
const postgres: Kind = {
  name: 'PostgreSQL',
  start: startPostgres,
  options: ({ host, port }) => ({ connection: { connectionString: `postgres://postgres@${host}:${port}/postgres`, migrate: true } }),
  backend: createPostgresBackend
}

for (const [kind, there, service] of [[redis, hasRedis(), 'redis'], [postgres, hasPostgres(), 'postgres']] as const) {
  t.test(`BullMQ on ${kind.name}`, { ...unless(service, there), timeout: 90_000 }, async t => {
    const own = await kind.start()
    t.teardown(() => own.stop())
    const server = (kind === redis ? await findServer('redis') : undefined) ?? own

    const openQueue = async (at: Server): Promise<OpenedOnOwnServer> => {
      const queue = new Queue(newName(), kind.options(at), kind.backend)
      queue.on('error', () => {})
      await queue.waitUntilReady()
      return {
        client: queue,
        work: async () => ({ result: queue.add('job', {}).then(() => 'done') }),
        isClosed: () => queue.closing !== undefined,
        end: () => queue.close(),
        cleanUp: async () => { await inTime(queue.close()).catch(() => {}) },
        ...unharmed
      }
    }
    const openEvents = async (at: Server): Promise<OpenedOnOwnServer> => {
      const events = new QueueEvents(newName(), kind.options(at) as any, kind.backend) // any: see Kind
      events.on('error', () => {})
      await events.waitUntilReady()
      return { client: events, work: async () => ({ result: Promise.resolve('done') }), isClosed: () => events.closing !== undefined, end: () => events.close(), ...unharmed }
    }
    const openWorker = async (at: Server): Promise<OpenedOnOwnServer> => {
      const name = newName()
      const queue = new Queue(name, kind.options(at), kind.backend)
      queue.on('error', () => {})
      await queue.waitUntilReady()
      ignoreRecordedSockets()
      let begun = (): void => {}
      let ended = (_word: string): void => {}
      const active = new Promise<void>(resolve => { begun = resolve })
      const result = new Promise<string>(resolve => { ended = resolve })
      const worker = startWorker(name, at, async (_job, _token, signal) => {
        begun()
        await new Promise<void>(resolve => {
          const timer = setTimeout(resolve, 300)
          signal?.addEventListener('abort', () => { clearTimeout(timer); resolve() })
        })
        ended('done')
      })
      await worker.waitUntilReady()
      return {
        client: worker,
        work: async () => { await queue.add('job', {}); await active; return { result } },
        isClosed: () => worker.closing !== undefined,
        end: () => worker.close(),
        cleanUp: () => adapterFor(queue).force?.(),
        ...unharmed
      }
    }
    const faulty = (open: (at: Server) => Promise<OpenedOnOwnServer>) => async (): Promise<OpenedOnOwnServer> => {
      const own = await kind.start()
      return { ...await open(own), ...own }
    }
    await resourceContract(t, { name: `${kind.name} worker`, open: () => openWorker(server), openOnOwnServer: faulty(openWorker), rejects: false })
    await resourceContract(t, { name: `${kind.name} queue`, open: () => openQueue(server), openOnOwnServer: faulty(openQueue), works: false })
    await resourceContract(t, { name: `${kind.name} queue events`, open: () => openEvents(server), openOnOwnServer: faulty(openEvents), works: false })

    t.test('force returns a running job to the queue, and another worker takes it at once', async t => {
      const name = newName()
      const queue = new Queue(name, kind.options(server), kind.backend)
      const runs: string[] = []
      const taken = createSignal()
      const stuck = startWorker(name, server, async job => { runs.push(`first ${job.name}`); taken.open(); await new Promise(() => {}) })
      await queue.add('stuck', {})
      await taken.opened
      const resource = bullmqWorker(stuck)
      await resource.pause?.()
      const closing = close(resource)
      t.equal(await state(closing, 100), 'pending', 'close waits for the job')
      await inTime(resource.force?.())
      await inTime(closing)
      t.same(resource.detail?.(), { jobsReturned: 1, jobsLeft: 0 })

      const done = createSignal()
      const other = startWorker(name, server, async job => { runs.push(`second ${job.name}`); done.open() })
      await inTime(done.opened, 5_000)
      await close(bullmqWorker(other))
      t.same(runs, ['first stuck', 'second stuck'])
      t.same(await queue.getJobCounts('completed', 'active', 'failed', 'waiting'), { completed: 1, active: 0, failed: 0, waiting: 0 })
      await close(adapterFor(queue))
    })

    t.test('a job that force cancels is not counted as failed', async t => {
      const name = newName()
      const queue = new Queue(name, kind.options(server), kind.backend)
      const taken = createSignal()
      const cancelled = createSignal()
      const worker = startWorker(name, server, async (_job, _token, signal) => {
        taken.open()
        await new Promise<void>((_resolve, reject) => {
          signal?.addEventListener('abort', () => { cancelled.open(); reject(new Error('cancelled')) })
        })
      })
      await queue.add('job', {})
      await taken.opened
      const resource = bullmqWorker(worker)
      const closing = close(resource)
      await inTime(resource.force?.())
      await inTime(closing)
      await inTime(cancelled.opened)
      t.same(await queue.getJobCounts('failed', 'waiting', 'active'), { failed: 0, waiting: 1, active: 0 })
      await close(adapterFor(queue))
    })

    t.test('a paused worker takes no more jobs, and the waiting jobs stay in the queue', async t => {
      const name = newName()
      const queue = new Queue(name, kind.options(server), kind.backend)
      const taken = createSignal()
      const finish = createSignal()
      let begun = 0
      const worker = startWorker(name, server, async () => { begun++; taken.open(); await finish.opened })
      await queue.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: `job ${i}`, data: {} })))
      await taken.opened
      const resource = bullmqWorker(worker)
      await resource.pause?.()
      const completed = new Promise<void>(resolve => { worker.once('completed', () => resolve()) })
      finish.open()
      await inTime(completed)
      await inTime(close(resource))
      t.equal(begun, 1)
      t.same(await queue.getJobCounts('completed', 'waiting', 'active'), { completed: 1, waiting: 4, active: 0 })
      await close(adapterFor(queue))
    })

    function startWorker (name: string, at: Server, processor: Processor): Worker {
      const worker = new Worker(name, processor as (job: Job) => Promise<unknown>, { ...kind.options(at), runRetryDelay: 50 }, kind.backend)
      worker.on('error', () => {})
      return worker
    }
  })
}

function newName (): string {
  return `shutdown-test-${process.pid}-${made++}`
}

function createSignal (): { open: () => void, opened: Promise<void> } {
  let open = (): void => {}
  const opened = new Promise<void>(resolve => { open = resolve })
  return { open, opened }
}
