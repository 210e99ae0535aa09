/** 1 000 jobs and two worker processes: one gets SIGTERM, the other SIGKILL. No job is lost, and each second run is explained. */
import { Queue, QueueEvents } from 'bullmq'
import type { ChildProcessByStdio } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { Redis } from 'ioredis'
import t from 'tap'
import { adapterFor } from '../../lib/resources/adapters/index'
import { close, inTime } from '../helpers/resource-contract'
import { hasRedis, startRedis, unless } from '../helpers/services'

type Child = ChildProcessByStdio<null, Readable, null>
const jobs = 1_000
/** The concurrency of the fixture's worker: the most jobs that it runs at once. */
const concurrency = 5

t.test('1 000 jobs survive a worker that stops and a worker that is killed', { ...unless('redis', hasRedis()), timeout: 80_000 }, async t => {
  const server = await startRedis()
  t.teardown(() => server.stop())
  const connection = { host: server.host, port: server.port }
  const redis = new Redis(connection)
  const queue = new Queue('jobs', { connection })
  const events = new QueueEvents('jobs', { connection })
  await events.waitUntilReady()
  const completed: string[] = []
  const at = new Map<number, () => void>()
  const reached = (count: number): Promise<void> => new Promise(resolve => { at.set(count, resolve) })
  events.on('completed', ({ jobId }) => { completed.push(jobId); at.get(new Set(completed).size)?.() })
  const [early, half, all] = [reached(250), reached(500), reached(jobs)]

  await queue.addBulk(Array.from({ length: jobs }, (_, i) => ({ name: 'job', data: {}, opts: { jobId: `job-${i}` } })))
  const children: Child[] = []
  t.teardown(() => { for (const child of children) child.kill('SIGKILL') })
  const first = start('first')
  const second = start('second')

  await inTime(early, 30_000)
  const stopped = once(first, 'exit')
  first.kill('SIGTERM')
  t.same(await inTime(stopped, 10_000), [0, null], 'the worker that gets SIGTERM ends by itself with code 0')
  t.ok(completed.length < jobs, 'there is still work')

  await inTime(half, 30_000)
  // The worker prints a dot when it begins a job, so at least one job is running when it is killed.
  await once(second.stdout, 'data')
  const killed = once(second, 'exit')
  second.kill('SIGKILL')
  await killed
  const third = start('third')
  await inTime(all, 40_000)
  const ended = once(third, 'exit')
  third.kill('SIGTERM')
  t.same(await inTime(ended, 10_000), [0, null])

  const runs = (await redis.lrange('runs', 0, -1)).map(line => {
    const [worker = '', what = '', id = ''] = line.split(' ')
    return { worker, what, id }
  })
  const done = runs.filter(run => run.what === 'done')
  t.equal(new Set(done.map(run => run.id)).size, jobs, 'each job was done at least once')
  t.equal(completed.length, jobs, 'each job was completed exactly once')
  t.same(await queue.getJobCounts('completed', 'failed', 'active', 'waiting'), { completed: jobs, failed: 0, active: 0, waiting: 0 })

  const starts = new Map<string, string[]>()
  for (const { id, worker } of runs.filter(run => run.what === 'start')) starts.set(id, [...starts.get(id) ?? [], worker])
  const doubles = [...starts].filter(([, workers]) => workers.length > 1)
  t.comment(`${doubles.length} of ${jobs} jobs were begun twice, ${done.length - jobs} done twice`)
  t.ok(doubles.length >= 1 && doubles.length <= concurrency, 'no more jobs than the killed worker was running')
  for (const [id, workers] of doubles) {
    const job = await queue.getJob(id)
    t.same(workers, ['second', 'third'], `${id} was begun by the killed worker, and again by the next one`)
    t.equal(job?.stalledCounter, 1, `${id} had stalled`)
  }
  const begunByFirst = runs.filter(run => run.worker === 'first' && run.what === 'start').length
  t.equal(done.filter(run => run.worker === 'first').length, begunByFirst, 'the worker that got SIGTERM finished every job that it had begun')

  for (const client of [events, queue, redis]) await close(adapterFor(client))

  function start (name: string): Child {
    const child = spawn(process.execPath, [...process.execArgv, join(__dirname, 'fixtures', 'worker.ts'), name, String(server.port), 'jobs'], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    return child
  }
})
