/**
 * The traffic of the soak as data: which client sends what, and how it leaves. The same seed and the same number of
 * requests give the same plan.
 */
import { mulberry32 } from '../support/random.mjs'
import { routes } from './routes.mjs'

/** The shapes of a visit, and their share of all requests. */
const shares = {
  'one-shot': 0.12,
  'keep-alive': 0.2,
  pipelined: 0.18,
  'slow reader': 0.04,
  crowd: 0.06,
  websocket: 0.06,
  'h2c session': 0.12,
  'h2c rapid reset': 0.05,
  'h2 session': 0.12,
  'h2 rapid reset': 0.05
}

/** Connections of a crowd, each with as many pipelined requests. They all leave in the same turn. */
const crowd = { connections: 50, pipelined: 4 }

/**
 * Connections of the crowd that begins the last wave. If a step checks every request of the server, it becomes visible.
 */
const largeCrowd = requests => Math.min(4_000, Math.max(2_000, Math.round(requests / 50)))
const heldByCrowd = ['/hijack-held/0', '/endless-stream/0', '/async-endless-stream/0', '/never-async/0']

/** Streams that one session opens and cancels in one write. Node closes a session after about 1 000 of them. */
const rapidReset = 100

/** Files that a slow reader requests in one write: more bytes than the buffers of its connection hold. */
const slowReader = { files: 16, leavesAfterMs: 150 }

/** Share of all requests in the last wave, and share of its requests whose handler never ends. */
const secondWave = 0.15
const neverShare = 0.5

/** Most milliseconds that a handler waits: longer than most clients stay. */
const longestHandler = 25

/** When a client leaves. The values say how often, in relation to each other. */
const moments = {
  answers: { head: 1, sent: 3, handler: 6, answered: 3 },
  streams: { sent: 2, handler: 4, streaming: 5, answered: 2 },
  uploads: { body: 6, sent: 2, handler: 2, answered: 2 },
  destroys: { sent: 1, handler: 3 },
  holds: { sent: 1, handler: 3 },
  never: { sent: 1, handler: 3 }
}
const ways = { reset: 4, destroy: 2, 'half-close': 2 }
const kinds = { answers: 5, streams: 4, uploads: 2, destroys: 1, holds: 1 }
const webSocketMoments = { handshake: 2, open: 2, message: 2, 'half-frame': 3, closed: 2 }
const sessionEnds = { close: 3, destroy: 2, reset: 3 }

/**
 * @param rounds waves of handlers that end. More than one show whether the memory grows with the requests
 * @returns the waves. In all but the last one all handlers end. In the last one a large crowd leaves, and half of the
 *   handlers never end.
 */
export function plan (seed, requests, rounds = 1) {
  const second = Math.round(requests * secondWave)
  const connections = largeCrowd(requests)
  // A short soak sends more requests than the option says, because its crowd is never small.
  const others = Math.max(second / 2, second - connections * heldByCrowd.length)
  return [
    ...Array.from({ length: rounds }, (_, round) => ({
      name: rounds === 1 ? 'handlers that end' : `handlers that end, ${round + 1} of ${rounds}`,
      endless: false,
      visits: visits(mulberry32(seed + 2 * round), (requests - second) / rounds, 0)
    })),
    { name: 'handlers that never end', endless: true, visits: afterCrowd(connections, visits(mulberry32(seed + 1), others, neverShare)) }
  ]
}

function * afterCrowd (connections, visits) {
  const targets = heldByCrowd.map(url => ({ method: 'GET', url }))
  yield { transport: 'http1', shape: 'crowd', targets, connections, ms: 20, when: 'handler', how: 'reset', requests: connections * targets.length }
  yield * visits
}

/** @yields visits, each with `requests`: how many requests it sends */
function * visits (random, total, never) {
  const sent = Object.fromEntries(Object.keys(shares).map(shape => [shape, 0]))
  let all = 0
  while (all < total) {
    // The shape with the fewest requests in relation to its share.
    const shape = Object.keys(shares).reduce((a, b) => sent[b] / shares[b] < sent[a] / shares[a] ? b : a)
    const visit = shapes[shape](draw(random, never), shape)
    sent[shape] += visit.requests
    all += visit.requests
    yield visit
  }
}

const shapes = {
  'one-shot': (draw, shape) => http1(draw, shape, 1),
  'keep-alive': (draw, shape) => http1(draw, shape, draw.whole(2, 6)),
  pipelined: (draw, shape) => http1(draw, shape, draw.whole(2, 8)),
  crowd (draw, shape) {
    const { connections, pipelined } = crowd
    const targets = Array.from({ length: pipelined }, () => draw.target(draw.kind(['uploads', 'destroys'])))
    return { transport: 'http1', shape, targets, connections, ms: draw.whole(0, 20), when: 'handler', how: 'reset', requests: connections * pipelined }
  },
  'slow reader' (draw, shape) {
    const { files, leavesAfterMs } = slowReader
    const target = { kind: 'streams', method: 'GET', url: '/file/0' }
    return { transport: 'http1', shape, targets: Array(files).fill(target), when: 'streaming', how: draw.one(ways), ms: draw.whole(20, leavesAfterMs), requests: files }
  },
  websocket: (draw, shape) => ({ transport: 'http1', shape, when: draw.one(webSocketMoments), how: draw.one(ways), ms: draw.whole(0, 5), messages: draw.whole(1, 3), requests: 1 }),
  'h2c session': (draw, shape) => http2(draw, shape, 'h2c'),
  'h2 session': (draw, shape) => http2(draw, shape, 'h2'),
  'h2c rapid reset': (draw, shape) => rapid(draw, shape, 'h2c'),
  'h2 rapid reset': (draw, shape) => rapid(draw, shape, 'h2')
}

/** The client leaves during the last one of its requests. */
function http1 (draw, shape, count) {
  const last = draw.target(draw.kind())
  const when = draw.one(moments[last.kind])
  // Only the last request may have a body, or an answer that destroys its connection. A pipelined request would wait
  // without end behind a request that is never answered.
  const before = when === 'answered' || when === 'streaming' || shape === 'keep-alive' ? ['uploads', 'destroys', 'holds', 'never'] : ['uploads', 'destroys']
  const targets = [...Array.from({ length: count - 1 }, () => draw.target(draw.kind(before))), last]
  return { transport: 'http1', shape, targets, when, how: draw.one(ways), ms: draw.whole(0, 8), requests: count }
}

/** Each stream is cancelled by itself, or ended with its session. */
function http2 (draw, shape, transport) {
  const streams = Array.from({ length: draw.whole(4, 16) }, () => {
    const target = draw.target(draw.kind())
    return { target, when: draw.one({ ...moments[target.kind], head: 0 }), ms: draw.whole(0, 8), cancels: draw.random() < 0.8 }
  })
  return { transport, shape, streams, how: draw.one(sessionEnds), when: 'streams', ms: draw.whole(5, 30), requests: streams.length }
}

function rapid (draw, shape, transport) {
  return { transport, shape, targets: Array.from({ length: rapidReset }, () => draw.target(draw.kind(['uploads', 'destroys']))), when: 'rapid', how: draw.one({ ...ways, 'half-close': 0 }), ms: draw.whole(0, 20), requests: rapidReset }
}

function draw (random, never) {
  const whole = (min, max) => min + Math.floor(random() * (max - min + 1))
  const one = weights => {
    let rest = random() * Object.values(weights).reduce((sum, weight) => sum + weight, 0)
    return Object.keys(weights).find(key => (rest -= weights[key]) < 0)
  }
  return {
    random,
    whole,
    one,
    /** @param without kinds that are not wanted */
    kind (without = []) {
      if (never > 0 && !without.includes('never') && random() < never) return 'never'
      return one(Object.fromEntries(Object.entries(kinds).filter(([kind]) => !without.includes(kind))))
    },
    target (kind) {
      const able = routes.filter(route => route.kind === kind)
      const { path, method = 'GET', type = 'text/plain' } = able[whole(0, able.length - 1)]
      return { kind, method, type, url: path.replace(':ms', kind === 'streams' ? whole(1, 3) : whole(0, longestHandler)) }
    }
  }
}
