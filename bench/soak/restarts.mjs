/**
 * The first part of the soak: traffic of all kinds behind HAProxy. Two of three instances restart in turn, and the
 * third one runs all the time. One more process restarts its servers again and again. Returns the samples of all
 * processes, and what the clients saw.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { getPriority, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openDatabase } from '../rolling/orders.mjs'
import { startTraffic } from '../rolling/traffic.mjs'
import * as haproxy from './haproxy.mjs'
import { startMoreTraffic } from './more-traffic.mjs'
import { sum, tally } from './sample.mjs'
import { atMost, flat } from '../support/flat.mjs'

const path = file => fileURLToPath(new URL(file, import.meta.url))

/** Largest growth over the whole run that counts as flat. Memory in megabytes, after a garbage collection. */
const limits = { memory: 2, resident: 25, handles: 4, descriptors: 4 }

/** Share of the requests that use HTTP/2. */
const http2Share = 0.1

/**
 * @param minutes length of the traffic
 * @param everyMs time from one restart to the next one, in milliseconds
 * @param rate requests per second
 * @param onProgress called with a line for each failure and each minute
 */
export async function soakRestarts ({ minutes, everyMs, rate, signal, onProgress }) {
  const directory = await mkdtemp(join(tmpdir(), 'soak-'))
  const samples = join(directory, 'samples')
  const http2Sockets = join(directory, 'sockets')
  await mkdir(http2Sockets)
  const durationMs = minutes * 60_000
  // A short run also needs enough samples.
  const sampleMs = Math.min(15_000, durationMs / 24)
  const database = await openDatabase()
  const orders = await database.open()
  let place = null
  let traffic = null
  let more = null
  let inProcess = null
  let proxyLog = ''
  try {
    place = await haproxy.start({
      script: path('service.mjs'),
      directory,
      http2Sockets,
      log: text => { proxyLog += text },
      env: {
        DATABASE_URL: database.url,
        ORDERS_TABLE: orders.table,
        NODE_ENV: 'production',
        TAP: '',
        SAMPLES: samples,
        SAMPLE_MS: String(sampleMs),
        HTTP2_SOCKETS: http2Sockets,
        PRIORITY: String(getPriority())
      }
    })
    inProcess = startInProcess({ sampleMs, pauseMs: 300 })
    const began = performance.now()
    const losses = []
    let signalAt = null
    const onFailure = what => {
      const now = performance.now()
      losses.push({ atMs: Math.round(now - began), afterSignalMs: signalAt === null ? null : Math.round(now - signalAt), what })
      onProgress(`${Math.round((now - began) / 1_000)} s: ${what}, ${signalAt === null ? 'before the first signal' : `${losses.at(-1).afterSignalMs} ms after the last signal`}`)
    }
    traffic = startTraffic({ url: place.url, rate: rate * (1 - http2Share), without: [], onFailure })
    more = startMoreTraffic({ url: place.url, http2Url: place.http2Url, rate: rate * http2Share, onFailure })
    const load = []
    const ends = []
    while (performance.now() - began < durationMs && !signal.aborted) {
      await sleep(Math.max(0, (ends.length + 1) * everyMs - (performance.now() - began)), undefined, { signal }).catch(() => {})
      if (signal.aborted || performance.now() - began >= durationMs) break
      signalAt = performance.now()
      ends.push(...await place.restart(1, haproxy.restarted))
      load.push(loadavg()[0])
      const { counts } = traffic
      onProgress(`${Math.round((performance.now() - began) / 1_000)} s: ${ends.length} restarts, ${counts.requests + more.counts.requests} requests, ${losses.length} lost, load ${load.at(-1).toFixed(1)}`)
    }
    await Promise.all([traffic.stop(), more.stop()])
    const [restarts] = await Promise.all([inProcess.stop(), place.stop()])
    const { counts } = traffic
    const lines = (await readFile(samples, 'utf8')).trim().split('\n').map(line => JSON.parse(line))
    const unusual = haproxy.readLog(proxyLog)
    if (process.env.SOAK_PROXY_LOG !== undefined) await writeFile(process.env.SOAK_PROXY_LOG, proxyLog)
    const result = {
      minutes: Number(((performance.now() - began) / 60_000).toFixed(1)),
      everyMs,
      rate,
      sampleMs: Math.round(sampleMs),
      haproxy: haproxy.version(),
      postgres: database.version,
      load: { lowest: Math.min(...load), highest: Math.max(...load), mean: load.reduce((a, b) => a + b, 0) / load.length },
      requests: counts.requests + more.counts.requests,
      http2AndEvents: more.counts.requests,
      eventStreamsEnded: more.counts.streamsEnded,
      refusedStreams: more.counts.refused,
      orders: counts.orders.size,
      missingOrders: await orders.missing(counts.orders),
      webSocketsMoved: counts.webSocketsClosed,
      losses: losses.map(loss => ({ ...loss, proxy: unusual.filter(({ clientPort, retries }) => retries === 0 && loss.what.includes(`"localPort":${clientPort},`)) })),
      repeated: tally(unusual.filter(({ retries }) => retries > 0).map(({ request }) => `${request.split(' ')[0]} ${request.split(' ').at(-1)}`)),
      ends,
      ...instances(lines, durationMs),
      inProcess: restarts
    }
    return { result, verdict: judge(result) }
  } finally {
    await Promise.all([traffic?.stop(), more?.stop(), inProcess?.stop()])
    await place?.stop()
    await orders.drop()
    await database.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

/** @returns the samples of the instance that is never restarted, and those of the others at their ends */
function instances (lines) {
  const exits = lines.filter(({ moment }) => moment === 'exit')
  // The third instance is the oldest one at its end.
  const oldest = exits.reduce((a, b) => b.ageMs > a.ageMs ? b : a)
  const thin = ({ memoryMb, residentMb, handles, listeners, descriptors, connections, stats }) => ({ memoryMb, residentMb, handles, listeners, descriptors, connections, stats })
  return {
    running: lines.filter(({ pid, moment }) => pid === oldest.pid && moment === 'running').map(thin),
    runningEnd: { ...thin(oldest), active: oldest.active, outcomes: oldest.outcomes, code: oldest.code, ageMs: oldest.ageMs },
    restarted: exits.filter(({ pid }) => pid !== oldest.pid).map(line => ({ ...thin(line), active: line.active, outcomes: line.outcomes, code: line.code, ageMs: line.ageMs }))
  }
}

/** @returns whether each promise holds */
export function judge ({ losses, missingOrders, ends, running, runningEnd, restarted, inProcess }) {
  const all = [...restarted, runningEnd]
  return [
    atMost('requests, streams and WebSockets that were lost', 0, losses.length),
    atMost('acknowledged orders that are missing in the database', 0, missingOrders),
    atMost('restarts that did not end with exit code 0', 0, ends.filter(({ how }) => how !== '0').length),
    atMost('instances whose shutdown was not clean', 0, all.filter(({ outcomes }) => outcomes.length !== 2 || outcomes.some(outcome => outcome !== 'clean')).length),
    atMost('instances with something in flight at their exit', 0, all.filter(({ active }) => active !== 0).length),
    atMost('instances whose `received` is not the sum of the outcomes', 0, all.filter(({ stats: { received, completed, rejected, aborted, cut } }) => received !== completed + rejected + aborted + cut).length),
    ...series('the instance that runs all the time', running),
    ...series('the restarted instances at their exit, from the first one to the last one', restarted),
    ...series('the process that restarts its servers', inProcess),
    atMost('wrong answers and wrong reports of the process that restarts its servers', 0, inProcess.at(-1)?.errors ?? Infinity)
  ]
}

/** @returns whether each series of samples is flat */
export function series (of, samples) {
  return [
    flat(`growth of memory, MB: ${of}`, limits.memory, samples.map(({ memoryMb }) => memoryMb)),
    flat(`growth of resident memory, MB: ${of}`, limits.resident, samples.map(({ residentMb }) => residentMb)),
    flat(`growth of handles without connections: ${of}`, limits.handles, samples.map(({ handles, connections = 0 }) => sum(handles) - connections)),
    flat(`growth of file descriptors without connections: ${of}`, limits.descriptors, samples.map(({ descriptors, connections = 0 }) => (descriptors ?? 0) - connections)),
    flat(`growth of listeners on \`process\`: ${of}`, 0, samples.map(({ listeners }) => sum(listeners)))
  ]
}

/** Starts the process that restarts its servers. `ended` resolves to its samples, also after `stop()`. */
export function startInProcess (config) {
  const child = spawn(process.execPath, [path('same-process.mjs'), JSON.stringify(config)], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TAP: '' }, stdio: ['pipe', 'pipe', 'inherit']
  })
  const kill = () => { child.kill('SIGKILL') }
  process.once('exit', kill)
  child.stdin.on('error', () => {})
  const samples = []
  const lines = createInterface(child.stdout).on('line', line => samples.push(JSON.parse(line)))
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(([[code, signal]]) => {
    process.off('exit', kill)
    if (code !== 0) throw new Error(`the process that restarts its servers ended with ${code ?? signal}`)
    return samples
  })
  // The error is for the caller of `stop()`, which may come later.
  ended.catch(() => {})
  return {
    ended,
    stop () {
      child.stdin.end()
      return ended
    }
  }
}
