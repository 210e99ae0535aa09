/** One server of the soak and its clients, and the counts of the server when all clients have left. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { start, terminate } from '../support/child.mjs'
import { visitAsCrowd, visitHttp1, visitSlowly, visitWebSocket } from './http1.mjs'
import { visitRapidly, visitSession } from './http2.mjs'
import { plan } from './plan.mjs'

const ca = readFileSync(new URL('../../test/helpers/fixtures/cert.pem', import.meta.url))

/** Visits at the same time. */
const atOnce = 96

/** How often the server's counts are read during the traffic and after it, in milliseconds. */
const scrapeMs = 100
const pollMs = 50

/** Longest time from the end of a client to the end of its request, if the handler ends, in milliseconds. */
export const promptMs = 1_000

/** `timeouts.requests` of the plugin, in milliseconds: the longest time that a handler without an end counts. */
export const limitMs = 2_000

/** The plugin checks once a second which handlers have reached their limit. A little more, in milliseconds. */
const sweepMs = 1_250

/** From the last client's end to the end of its connection on the server, in milliseconds. */
const closeMs = 300

/** A wave that takes longer is stopped, in milliseconds and milliseconds for each request of the soak. */
const longestWave = requests => 30_000 + 2 * requests

/** A server that has not ended this long after its signal is killed, in milliseconds. */
const exitCapMs = 10_000

/**
 * @param rounds waves of handlers that end
 * @param onWave called with each wave
 * @returns what the clients did, and what the server counted after each wave and at its end
 */
export async function soak ({ withPlugin, seed, requests, rounds = 1, onWave = () => {} }) {
  const server = start('disconnects', { withPlugin, limit: limitMs }, ['--expose-gc'])
  const killServer = () => server.kill('SIGKILL')
  process.once('exit', killServer)
  // A server whose loop stalls for minutes does not answer, and its clients and the questions below would wait for it.
  const timer = setTimeout(killServer, 2 * longestWave(requests))
  const ask = createAsker(server)
  try {
    const { ports } = await server.line()
    const waves = []
    for (const { name, visits, endless } of plan(seed, requests, rounds)) {
      timer.refresh()
      await ask('begin')
      const traffic = await send(visits, ports, ask, endless ? 'scrape' : 'compare', longestWave(requests))
      // After this time, Node has noticed each client that has left, if it can notice it at all.
      await sleep(closeMs)
      const { severed } = await ask('sever')
      // The plugin drops all handlers at their limit in one sweep, which must not stall the loop either.
      if (endless && withPlugin) await sleep(limitMs + sweepMs)
      const load = await ask('load')
      const wave = { name, endless, ...traffic, ...load, severed, ...await settle(ask, endless), heap: await ask('heap') }
      waves.push(wave)
      onWave(wave)
    }
    const heap = await ask('heap')
    const counts = await ask('counts')
    return { waves, heap, counts, ended: withPlugin ? await terminate(server, exitCapMs) : null }
  } finally {
    clearTimeout(timer)
    killServer()
    process.removeListener('exit', killServer)
    await server.exited
  }
}

/** One question at a time: the server answers in the order of the lines. */
function createAsker (server) {
  let last = Promise.resolve()
  return word => {
    last = last.then(() => {
      server.say(word)
      return server.line()
    })
    return last
  }
}

async function send (visits, ports, ask, question, longest) {
  const before = performance.now()
  const done = { requests: 0, visits: 0, overdue: 0, uncounted: 0, cutShort: false, shapes: {}, moments: {}, ways: {} }
  const over = new AbortController()
  const timer = setTimeout(() => {
    done.cutShort = true
    over.abort()
  }, longest)
  // If the server is gone, its clients have nothing left to do.
  const scraper = scrape(ask, question, over.signal, ({ uncounted = 0 }) => { done.uncounted += uncounted }).finally(() => over.abort())
  const clients = Array.from({ length: atOnce }, async () => {
    for (const visit of visits) {
      if (over.signal.aborted) return
      count(done, visit, await begin(visit, ports))
    }
  })
  await Promise.all([scraper, Promise.all(clients).then(() => over.abort())])
  clearTimeout(timer)
  return { ...done, seconds: (performance.now() - before) / 1_000 }
}

function begin (visit, ports) {
  const { transport, shape } = visit
  if (shape === 'websocket') return visitWebSocket(ports['HTTP/1.1'], visit)
  if (shape === 'slow reader') return visitSlowly(ports['HTTP/1.1'], visit)
  if (shape === 'crowd') return visitAsCrowd(ports['HTTP/1.1'], visit)
  if (transport === 'http1') return visitHttp1(ports['HTTP/1.1'], visit)
  const [port, certificate] = transport === 'h2' ? [ports['HTTP/2'], ca] : [ports.h2c, undefined]
  return visit.when === 'rapid' ? visitRapidly(port, visit, certificate) : visitSession(port, visit, certificate)
}

function count (done, { shape, when, how, requests }, result) {
  done.requests += requests
  done.visits++
  if (result === 'overdue') done.overdue++
  for (const [counts, key] of [[done.shapes, shape], [done.moments, when], [done.ways, how]]) counts[key] = (counts[key] ?? 0) + requests
}

/** Reads the counts every `scrapeMs` milliseconds, as a metrics endpoint does. This must not change them. */
async function scrape (ask, question, signal, onAnswer) {
  while (!signal.aborted) {
    onAnswer(await ask(question))
    await sleep(scrapeMs, undefined, { signal }).catch(() => {})
  }
}

/**
 * Waits until nothing is in flight. After a wave whose handlers all end, a request may still count if the stream that
 * its handler has sent is open: bare Fastify leaves some of these streams open. After an endless wave, the limit is
 * over for all requests.
 *
 * @returns the number of requests that are left, and the same by route
 */
async function settle (ask, endless) {
  const before = performance.now()
  for (;;) {
    const counts = await ask('counts')
    const leftBy = endless ? counts.left : beyond(counts.left, counts.open)
    const left = Object.values(leftBy).reduce((total, count) => total + count, 0)
    if (left === 0 || endless || performance.now() - before > promptMs) return { left, leftBy }
    await sleep(pollMs)
  }
}

function beyond (left, open) {
  return Object.fromEntries(Object.entries(left).map(([route, count]) => [route, count - (open[route] ?? 0)]).filter(([, count]) => count > 0))
}
