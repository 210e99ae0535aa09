/**
 * `npm run demo`: stops a real service with a real PostgreSQL under load, and accounts for every request that was sent
 * to it. It ends with the timeline of the shutdown, and writes it as a page. Exit code 0 if nothing was lost, 1 if something was lost, 2 if there is no PostgreSQL.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Client } from 'pg'
import { renderHtml } from '../../lib/timeline/html'
import { readReport } from '../../lib/timeline/read-report'
import { renderText } from '../../lib/timeline/text'
import { createScreen, type Colour } from './screen'
import { NoPostgresError, openPostgres, openRedis, type Server } from './servers'
import { startService } from './service'
import { startTraffic, type Traffic } from './traffic'
import { judge, type Seen, type Verdict } from './verdict'

/** Time of traffic before the signal, and length of lame-duck, in milliseconds. */
const before = 4_000
const delay = 2_000

const screen = createScreen(process.stdout, process.env)
const { line, paint } = screen

const explanations: Readonly<Record<string, string>> = {
  'lame-duck': 'still serves; answers carry Connection: close; the load balancer notices',
  draining: 'new requests are rejected; requests, streams and tasks in flight finish',
  cleaning: 'nothing is in flight; Redis and PostgreSQL close',
  shutdown: 'the report is published'
}

/** The page with the timeline, in the current directory. */
const page = process.env.DEMO_REPORT ?? 'demo-report.html'

class InterruptedError extends Error {}

/** Ctrl-C: everything that was started is stopped before the exit. */
const interrupted = new Promise<never>((_resolve, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new InterruptedError(`stopped by ${signal}`)))
})
interrupted.catch(() => {})

async function main (): Promise<number> {
  line(paint('bold', 'fastify-shutdown: a service is stopped under load'))
  const postgres = await openPostgres(process.env.DATABASE_URL)
  try {
    const redis = await openRedis(process.env.REDIS_URL)
    try {
      line(`  PostgreSQL  ${postgres.origin}`)
      line(`  Redis       ${redis?.origin ?? paint('yellow', 'left out: neither REDIS_URL nor a redis-server was found')}`)
      const verdict = judge(await Promise.race([stopUnderLoad(postgres, redis), interrupted]))
      print(verdict)
      showTimeline()
      return verdict.good ? 0 : 1
    } finally {
      await redis?.stop()
    }
  } finally {
    await postgres.stop()
  }
}

/** The log line with the report. */
let reportLine: string | null = null

async function stopUnderLoad (postgres: Server, redis: Server | null): Promise<Seen> {
  const timeline = createTimeline()
  const { at } = timeline
  let traffic: Traffic | null = null
  let phase = 'running'
  let outcome: string | null = null
  const service = await startService({
    ...process.env,
    // The demo may run in tap. The service must not detect a test runner.
    TAP: undefined,
    DATABASE_URL: postgres.url,
    REDIS_URL: redis?.url,
    HOST: '127.0.0.1',
    PORT: '0',
    SHUTDOWN_DELAY: String(delay)
  }, {
    phase (name, ms) {
      phase = name
      at('cyan', `${name}: ${explanations[name] ?? ''}`, ms)
      if (name === 'draining') traffic?.lateComers()
    },
    waiting: message => at('dim', message),
    report (report, line) {
      outcome = report.outcome
      reportLine = line
    },
    // What the demo leaves out is not a problem.
    trouble: text => { if (!text.includes(' is not set: ')) at('yellow', `service: ${text}`) }
  })

  line()
  timeline.zero = performance.now() + before
  at('dim', `the service listens, pid ${service.pid}; the clients begin`)
  const clients = traffic = startTraffic({
    port: service.port,
    onSlowEnd: (number, body) => at('dim', `slow ${number}: ended early with ${body}`),
    onWebSocketEnd: (number, { code, hasMessage }) => at('dim', `WebSocket ${number}: ${hasMessage ? 'a last message' : 'NOTHING'}, then close code ${code}`),
    onStreamEnd: (number, { events, end }) => at('dim', `stream ${number}: ${events} events, then ${end === 'marker' ? 'the end marker' : end === 'all' ? 'its end' : 'CUT'}`)
  })
  const progress = setInterval(() => {
    timeline.print()
    const count = (fate: string): number => clients.sent.filter(each => each.fate === fate).length
    screen.live(`  ${phase} | lost ${count('lost')} | in flight ${clients.inFlight} | answered ${count('answered')} | 503 ${count('rejected')} | refused ${count('refused')}`)
  }, 100)

  try {
    // A service that dies before SIGTERM must end the wait, too.
    await Promise.race([sleep(before), service.exited])
    timeline.zero = performance.now()
    clients.shutdownBegins()
    at('bold', `SIGTERM: ${clients.inFlight} requests in flight, ${clients.sent.length} answered before; the clients go on`, 0)
    service.terminate()
    const { code, signal } = await service.exited
    const afterMs = performance.now() - timeline.zero
    at('bold', code === null ? `ended by ${signal}` : `exit code ${code}`)
    // Requests to the closed port must be refused.
    await sleep(500)
    clients.end()
    await clients.over
    const { acknowledged, accepted } = clients
    return {
      sent: clients.sent,
      streams: clients.streams,
      webSockets: clients.webSockets,
      orders: { acknowledged, rows: await ids(postgres, 'select id from orders'), cached: redis === null ? null : await cached(redis, acknowledged) },
      jobs: { accepted, rows: await rows(postgres, 'select id, steps, state from jobs') },
      exit: { code, signal, afterMs, outcome }
    }
  } finally {
    clearInterval(progress)
    timeline.print(0)
    screen.live('')
  }
}

interface Timeline {
  /** When the signal is sent, in `performance.now()`'s milliseconds. */
  zero: number
  /** Add a line for now, or for `ms` milliseconds after the signal. */
  at(colour: Colour, text: string, ms?: number): void
  /** Print what is older than `age` milliseconds. */
  print(age?: number): void
}

/**
 * The service's log arrives later than its answers. Lines wait a little, so that a cause is printed before its effect.
 */
function createTimeline (): Timeline {
  let waiting: { readonly time: number, readonly text: string }[] = []
  const timeline: Timeline = {
    zero: 0,
    at (colour, text, ms) {
      waiting.push({ time: ms === undefined ? performance.now() : timeline.zero + ms, text: paint(colour, text) })
    },
    print (age = 150) {
      const until = performance.now() - age
      const due = waiting.filter(({ time }) => time <= until).sort((a, b) => a.time - b.time)
      waiting = waiting.filter(({ time }) => time > until)
      for (const { time, text } of due) {
        const seconds = (time - timeline.zero) / 1_000
        line(`${paint('dim', `${seconds < 0 ? '-' : '+'}${Math.abs(seconds).toFixed(2)} s`.padStart(8))}  ${text}`)
      }
    }
  }
  return timeline
}

function print ({ good, findings }: Verdict): void {
  line()
  const width = Math.max(...findings.map(({ label }) => label.length))
  for (const finding of findings) {
    line(`  ${finding.good ? paint('green', 'ok ') : paint('red', 'BAD')}  ${finding.label.padEnd(width)}  ${finding.value}`)
  }
  line()
  line(good ? paint('green', 'Verdict: good. Nothing was lost.') : paint('red', 'Verdict: bad. Look at the lines marked BAD.'))
}

function showTimeline (): void {
  const report = reportLine === null ? null : readReport(reportLine)
  if (report === null) return
  writeFileSync(page, renderHtml(report))
  line()
  line(renderText(report, { width: Math.min(process.stdout.columns ?? 100, 120), color: screen.coloured }).trimEnd())
  line()
  line(`The same as a page: ${page}`)
}

async function rows<Row> (postgres: Server, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: postgres.url })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

async function ids (postgres: Server, sql: string): Promise<string[]> {
  return (await rows<{ id: string }>(postgres, sql)).map(({ id }) => id)
}

async function cached (redis: Server, orders: readonly string[]): Promise<string[]> {
  const client = new Redis(redis.url)
  try {
    // Removed as they are counted: the Redis may be somebody's own.
    const found = await Promise.all(orders.map(async id => await client.del(`order~${id}`) === 1 ? id : null))
    return found.filter(id => id !== null)
  } finally {
    client.disconnect()
  }
}

main().then(
  code => { process.exitCode = code },
  error => {
    const expected = error instanceof NoPostgresError || error instanceof InterruptedError
    console.error(expected ? error.message : error)
    // The clients may still be at it, and the service with them.
    process.exit(error instanceof NoPostgresError ? 2 : 1)
  }
)
