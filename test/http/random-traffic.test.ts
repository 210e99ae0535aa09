/**
 * Random sequences of events on several connections, with the start of the drain somewhere among them. In every one: no
 * count is negative, the counts sum up, nothing is in flight at the end, no response that has begun is interrupted
 * unless the report names it, and the timeouts hold.
 */
import type net from 'node:net'
import { Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { turn } from '../../lib/util/time'
import { createDeferred } from '../../lib/util/deferred'
import type { ShutdownOptions } from '../../types/index'
import { abort, connect, get, portOf, post, type Client } from '../helpers/client'
import { serve } from '../helpers/serve'

/**
 * One step: the client of this connection does something, or the server begins to drain. A step that is impossible
 * (complete a request that was not begun, write on a closed connection) is skipped.
 */
type Step = { readonly what: 'drain' | 'turn' } | Act

interface Act {
  readonly what: 'whole' | 'held' | 'big' | 'stream' | 'upload' | 'half head' | 'half body' | 'finish' | 'pipeline' | 'upgrade' | 'garbage' | 'pause' | 'resume' | 'abort' | 'release'
  readonly on: number
}

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('drain' as const, 'turn' as const) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constantFrom(
        'whole' as const, 'held' as const, 'big' as const, 'stream' as const, 'upload' as const, 'half head' as const, 'half body' as const, 'finish' as const,
        'finish' as const, 'pipeline' as const, 'upgrade' as const, 'garbage' as const, 'pause' as const, 'resume' as const, 'abort' as const, 'release' as const
      ),
      on: fc.nat({ max: 4 })
    })
  }
)

const options: fc.Arbitrary<ShutdownOptions> = fc.record({
  track: fc.constantFrom('count' as const, 'detail' as const),
  newConnections: fc.constantFrom('answer' as const, 'refuse' as const)
})

/** No new run begins after this time, in milliseconds. A busy machine plays fewer runs. */
const longest = 20_000

t.test('the counts are right and the timeouts hold for any sequence of client actions', async t => {
  let runs = 0
  const began = performance.now()
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), options, async (steps, options) => {
    // Not fast-check's own time limit, because it leaves a run in the middle, which then continues in the background.
    if (performance.now() - began > longest) return
    await play(steps, options)
    runs++
  }), { numRuns: 60, endOnFailure: true })
  t.comment(`${runs} runs in ${((performance.now() - began) / 1_000).toFixed(1)} s`)
  t.ok(runs > 0)

  async function play (steps: readonly Step[], options: ShutdownOptions): Promise<void> {
    const timeouts = { requests: 120, streams: 80, tasks: 50, resources: 50, total: 400 }
    const gates = new Set<() => void>()
    const { app, report } = await serve(t, {
      options: { ...options, timeouts },
      routes: app => {
        app.get('/', async () => 'whole')
        app.get('/held', async () => {
          const gate = createDeferred<string>()
          gates.add(() => { gate.resolve('held') })
          return await gate.promise
        })
        app.get('/big', async () => big)
        app.get('/stream', (_request, reply) => {
          const source = new Readable({ read () {} })
          source.push('begun')
          gates.add(() => { source.push(null) })
          return reply.send(source)
        })
        app.post('/upload', async request => request.body)
        app.server.on('upgrade', (_req, socket: net.Socket) => {
          socket.on('error', () => {}).on('end', () => socket.end()).resume()
          socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n')
        })
      }
    })
    const port = portOf(app)
    const slots: ({ readonly client: Client, half: string, own: boolean, upgraded: boolean, used: boolean } | undefined)[] = []
    const others: Client[] = []
    let closed: Promise<unknown> | null = null
    // The app's own handlers end here, whatever happened before.
    try {
      for (const each of steps) {
        await act(each)
        checkCounts()
      }
      closed ??= app.shutdown.start()
      await closed
      const { durationMs, requests, streams } = await report
      checkCounts()
      const { stats, activeRequests, activeStreams, activeWebSockets } = app.shutdownState
      if (activeRequests + activeStreams + activeWebSockets !== 0) throw new Error(`Left in flight: ${JSON.stringify(app.shutdownState)}`)
      if (stats.cut !== requests.cut.length + streams.cut) throw new Error(`Cut ${stats.cut}, told of ${requests.cut.length + streams.cut}`)
      // The timers of a busy machine are late.
      if (durationMs > timeouts.total + 250) throw new Error(`Took ${durationMs} ms of ${timeouts.total}`)
      let lost = 0
      for (const slot of slots) if (slot !== undefined && !slot.own) lost += await isLost(slot.client, slot.upgraded)
      if (lost > stats.cut) throw new Error(`${lost} answers were broken off, ${stats.cut} were cut`)
    } finally {
      for (const release of gates) release()
      for (const slot of slots) slot?.client.socket.destroy()
      for (const { socket } of others) socket.destroy()
      await app.close()
    }

    function checkCounts (): void {
      const { stats, activeRequests, activeStreams, activeWebSockets } = app.shutdownState
      const inFlight = activeRequests + activeStreams
      const counts = [...Object.values(stats), activeRequests, activeStreams, activeWebSockets]
      if (counts.some(count => count < 0) || stats.received !== stats.completed + stats.rejected + stats.aborted + stats.cut + inFlight) {
        throw new Error(`The counts are wrong: ${JSON.stringify(app.shutdownState)}`)
      }
    }

    async function act (each: Step): Promise<void> {
      if (!('on' in each)) {
        if (each.what === 'drain') closed ??= app.shutdown.start()
        return await turn()
      }
      if (each.what === 'release') {
        for (const release of gates) release()
        gates.clear()
        return
      }
      let slot = slots[each.on]
      if (slot === undefined || slot.own) {
        // The port may refuse connections by now.
        const client = await connect(port).catch(() => null)
        if (client === null) return
        if (slot !== undefined) others.push(slot.client)
        slot = slots[each.on] = { client, half: '', own: false, upgraded: false, used: false }
      }
      const { client, half } = slot
      if (each.what === 'pause') client.socket.pause()
      else if (each.what === 'resume') client.socket.resume()
      else if (each.what === 'abort') {
        slot.own = true
        abort(client.socket)
      } else if (client.socket.writable && !slot.upgraded) {
        if (half !== '') {
          // Any other bytes would be read as the rest of the body.
          if (each.what === 'finish') slot.half = ''
          client.send(each.what === 'finish' ? half : '')
          return
        }
        if (each.what === 'finish') return
        if (each.what !== 'upgrade') slot.used = true
        if (each.what === 'half head') {
          slot.half = ' test\r\n\r\n'
          client.send('GET / HTTP/1.1\r\nHost:')
        } else if (each.what === 'half body') {
          slot.half = 'half'
          client.send(post('/upload', 'half', { 'Content-Length': '8' }))
        } else if (each.what === 'upgrade') {
          // Node hands the socket over at once, even in the middle of the previous response, so no client upgrades
          // there.
          if (slot.used) return
          slot.upgraded = true
          client.send(get('/', { Connection: 'Upgrade', Upgrade: 'test' }))
        } else if (each.what === 'garbage') {
          // Fastify itself closes the connection, and the earlier responses on it are lost.
          slot.own = true
          client.send('garbage\r\n\r\n')
        } else {
          client.send({
            whole: get('/'), held: get('/held'), big: get('/big'), stream: get('/stream'), upload: post('/upload', 'x'.repeat(100_000)), pipeline: get('/held') + get('/') + get('/stream') + get('/')
          }[each.what])
        }
      }
    }
  }
})

const big = 'x'.repeat(8_000_000)

/** @returns 1 if a response began and did not complete */
async function isLost (client: Client, upgraded: boolean): Promise<0 | 1> {
  client.socket.resume()
  await client.over
  // An incomplete head carries no status.
  while (client.rest.includes('\r\n\r\n')) {
    const answer = await client.answer().catch(() => null)
    if (answer === null) return 1
    if (upgraded && answer.status === 101) return 0
  }
  return 0
}
