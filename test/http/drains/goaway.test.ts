/**
 * How an HTTP/2 session ends, in a process of its own: Node 20 writes to freed memory if a stream begins between
 * `session.close()` and the GOAWAY, and the process aborts. Without the thread cache of glibc's allocator it aborts nearly
 * always, with the cache only sometimes.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { turn } from '../../../lib/util/time'
import { run, translate, type Child } from '../../helpers/children'
import type { Http2Service } from '../fixtures/http2-service'
import { connectCorked, mayRepeat, type CorkedSession, type Result } from '../../helpers/corked-session'

const directory = translate(t.testdir(), ['lib', 'test/http/fixtures/http2-service.ts'])
const certificates = join(__dirname, '../../helpers/fixtures')
const ca = readFileSync(join(certificates, 'cert.pem'))
const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

interface Running extends Child {
  connect(): Promise<CorkedSession>
  /** Begin the shutdown, and wait for this phase. While it drains one request is held, until `release()`. */
  stop(phase: Phase): Promise<void>
  release(): void
  /** The process ends by itself, and cleanly. @returns the numbers of the requests that a handler saw */
  over(t: Test): Promise<number[]>
}

type Phase = 'lame-duck' | 'draining'
const kinds = [['h2c', undefined], ['TLS', certificates]] as const
const phases: readonly Phase[] = ['lame-duck', 'draining']

async function start (t: Test, service: Http2Service): Promise<Running> {
  const child = run(t, {
    args: [join(directory, 'test/http/fixtures/http2-service.js')],
    cwd: directory,
    env: { SERVICE: JSON.stringify(service), GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0' }
  })
  const port = Number(await child.said('port'))
  const connect = async (): Promise<CorkedSession> => {
    const session = await connectCorked(port, service.tls === undefined ? undefined : ca)
    t.teardown(() => session.destroy())
    return session
  }
  let holder: Promise<Result> | null = null
  return {
    ...child,
    connect,
    async stop (phase) {
      if (phase === 'draining') {
        const session = await connect()
        holder = session.get('/held')
        await session.uncork()
        await child.said('held')
      }
      child.kill('SIGTERM')
      await child.said(phase)
    },
    release () {
      if (holder !== null) child.kill('SIGUSR2')
    },
    async over (t) {
      const { code, signal, stderr } = await child.ended
      t.same({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
      if (holder !== null) t.match(await holder, { status: 200, body: 'held', error: null })
      t.match(JSON.parse(await child.said('report')), { outcome: 'clean' })
      return JSON.parse(await child.said('seen')) as number[]
    }
  }
}

/** Long enough for a test to come to its end in it. */
const delayOf = (phase: Phase): number => phase === 'lame-duck' ? 1_000 : 0

function answeredIn (t: Test, phase: Phase, results: readonly Result[]): void {
  const [status, retryAfter] = phase === 'lame-duck' ? [200, undefined] : [503, '10']
  t.strictSame(results.map(({ body, ...rest }) => rest), results.map(() => ({ status, retryAfter, error: null })))
}

for (const [kind, tls] of kinds) {
  for (const phase of phases) {
    t.test(`${kind}, ${phase}: all requests that a new session opens at once are answered, and the session ends`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      await service.stop(phase)
      for (const count of [2, 5, 50]) {
        const session = await service.connect()
        const results = Array.from({ length: count }, (_, number) => session.get(`/request/${number}`))
        await session.flush()
        answeredIn(t, phase, await Promise.all(results))
        await session.uncork()
        t.equal(await session.goaway, 0)
        await session.closed
      }
      service.release()
      t.equal((await service.over(t)).length, phase === 'lame-duck' ? 57 : 0)
    })

    t.test(`${kind}, ${phase}: what begins after GOAWAY is not served, and its client may repeat it`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      await service.stop(phase)
      const session = await service.connect()
      session.pauseReading()
      const before = [0, 1, 2].map(number => session.get(`/request/${number}`))
      await session.flush()
      await session.goawayCame
      const after = [3, 4, 5].map(number => session.get(`/request/${number}`))
      await session.uncork()
      session.resumeReading()
      answeredIn(t, phase, await Promise.all(before))
      const late = await Promise.all(after)
      t.ok(late.every(mayRepeat), JSON.stringify(late))
      await session.closed
      service.release()
      t.strictSame(await service.over(t), phase === 'lame-duck' ? [0, 1, 2] : [])
    })

    t.test(`${kind}, ${phase}: requests in two writes, one right after the other, are answered, or may be repeated`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      await service.stop(phase)
      const session = await service.connect()
      // The server reads the preface first, so that nothing but the requests is in the two writes.
      await session.flush()
      await pause(20)
      const first = [0, 1, 2].map(number => session.get(`/request/${number}`))
      await session.flush()
      const second = [3, 4, 5].map(number => session.get(`/request/${number}`))
      await session.uncork()
      answeredIn(t, phase, await Promise.all(first))
      // The second write may come after GOAWAY.
      const late = await Promise.all(second)
      if (!late.every(mayRepeat)) answeredIn(t, phase, late)
      await session.closed
      service.release()
      await service.over(t)
    })

    t.test(`${kind}, ${phase}: a session that resets its requests at once ends like others`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      await service.stop(phase)
      const session = await service.connect()
      const streams = Array.from({ length: 20 }, (_, number) => session.open(`/request/${number}`))
      // First their HEADERS are framed, then the resets.
      await turn()
      for (const { cancel } of streams) cancel()
      await session.uncork()
      t.equal(await session.goaway, 0)
      await session.closed
      service.release()
      await service.over(t)
    })

    t.test(`${kind}, ${phase}: a preface that comes late loses no request`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      const session = await service.connect()
      await service.stop(phase)
      // Long enough for a GOAWAY to a session that has not begun.
      await pause(150)
      const results = [0, 1, 2, 3, 4].map(number => session.get(`/request/${number}`))
      await session.uncork()
      const late = await Promise.all(results)
      // Draining: the session was asked to leave before it said anything. TLS may have been too late for that.
      if (phase === 'lame-duck' || !late.every(mayRepeat)) answeredIn(t, phase, late)
      await session.closed
      service.release()
      t.equal((await service.over(t)).length, phase === 'lame-duck' ? 5 : 0)
    })

    t.test(`${kind}, ${phase}: a handler that begins the shutdown does not break the session that its request came by`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      const session = await service.connect()
      const stop = session.get('/stop')
      const results = [0, 1, 2, 3, 4].map(number => session.get(`/request/${number}`))
      await session.flush()
      t.match(await stop, { status: 200, body: 'stopping', error: null })
      answeredIn(t, phase, await Promise.all(results))
      await session.uncork()
      t.equal(await session.goaway, 0)
      await session.closed
      await service.over(t)
    })

    t.test(`${kind}, ${phase}: streams that begin while GOAWAY is on its way are served or may be repeated, never both`, async t => {
      const service = await start(t, { tls, delay: delayOf(phase) })
      const sessions = await Promise.all(Array.from({ length: 10 }, () => service.connect()))
      await Promise.all(sessions.map(session => session.uncork()))
      const pending: Promise<Result & { readonly number: number }>[] = []
      const busy = new Set(sessions)
      for (const session of sessions) void Promise.race([session.goaway, session.closed]).then(() => busy.delete(session))
      let number = 0
      const ask = (session: CorkedSession): void => {
        const own = number++
        pending.push(session.get(`/request/${own}`).then(result => ({ ...result, number: own })))
      }
      const began = performance.now()
      for (let stopped = false; busy.size > 0;) {
        for (const session of busy) for (let count = 0; count < 2; count++) ask(session)
        await pause(2)
        if (!stopped && performance.now() - began > 300) {
          stopped = true
          service.kill('SIGTERM')
        }
      }
      const results = await Promise.all(pending)
      const seen = new Set(await service.over(t))
      const repeated = results.filter(mayRepeat)
      t.comment(`${results.length} requests, ${seen.size} seen by a handler, ${repeated.length} may be repeated`)
      t.strictSame(repeated.filter(({ number }) => seen.has(number)), [])
      const isAnswered = ({ status, error }: Result): boolean => error === null && [200, 503].includes(status)
      t.strictSame(results.filter(result => !isAnswered(result) && !mayRepeat(result)), [])
    })
  }
}
