/**
 * One restart, from the start of the server to its end:
 *
 * start -> ready -> traffic -> signal -> traffic goes on -> the process ends, or the grace period does -> what is left
 */
import { createDeferred } from '../../util/deferred'
import { now, sleep, within } from '../../util/time'
import type { DrillOptions } from './arguments'
import { CannotRunError } from './cannot-run'
import { total } from './classes'
import { openSocketWithin, type Address } from './connection'
import type { Interruption } from './interruption'
import { findListeners, formatListener } from './listeners'
import { commandOf } from './process-table'
import { round, startRecord, type Record } from './record'
import { startRequests, type Traffic } from './requests'
import type { ProcessResult, Restart } from './result'
import type { ProcessEnd, Server } from './server'
import { openStreams } from './streams'
import { chooseRequests, findTarget, listeners } from './target'
import { openWebSockets } from './websockets'

/** Length of the traffic behind the end of the process, in milliseconds. */
const tailMs = 300

/** Longest wait for children after the end of the process, in milliseconds. */
const childrenMs = 500

/** What a restart tells about its progress. */
export type Progress = (line: string) => void

/**
 * Runs one restart.
 *
 * @throws CannotRunError if the server does not become ready, or ends before the signal
 */
export async function runRestart (
  server: Server, options: DrillOptions, interruption: Interruption, progress: Progress
): Promise<{ readonly restart: Restart, readonly requests: readonly string[] }> {
  const { wait } = interruption
  const startedAt = now()
  const target = await findTarget(server, options, interruption)
  const readyAt = now()
  const requests = await wait(chooseRequests(target, options.plan.requests))
  const names = requests.map(({ method, path }) => `${method} ${path}`)
  progress(`${target.url} is ready (pid ${server.pid}); ${list(names)}, ${options.plan.rate} per second`)

  const streams = await wait(openStreams(target, options.plan.sse))
  const webSockets = await wait(openWebSockets(target, options.plan.ws))
  const failed = createDeferred<never>()
  const record = startRecord()
  const { rate, connections } = options.plan
  const traffic = startRequests({
    target, requests, rate, connections, onError: error => failed.resolve(Promise.reject(error))
  }, record)
  failed.promise.catch(() => {})

  try {
    const early = await within(options.beforeMs, () => wait(Promise.race([server.ended, failed.promise])))
    if (early.status === 'rejected') throw early.reason
    if (early.status === 'fulfilled') {
      throw new CannotRunError(`the server ended during the traffic before ${options.signal}`)
    }
    if (record.before.answered === 0) throw new CannotRunError(`no request was answered before ${options.signal}`)
    const open = await wait(listeners(server))

    record.signal()
    streams.signal()
    webSockets.signal()
    server.signal(options.signal)
    const signalAt = now()
    progress(`${options.signal}: ${total(record.before)} requests before`)

    const settled = await within(options.graceMs, () => wait(Promise.race([server.ended, failed.promise])))
    if (settled.status === 'rejected') throw settled.reason
    const ended = settled.status === 'late' ? null : settled.value
    progress(
      ended === null ? `not over after ${options.graceMs / 1_000} s` : `the process ended after ${Math.round(ended.at - signalAt)} ms`
    )
    if (ended !== null) await interruption.pause(tailMs)
    const hungMs = await finishTraffic(traffic, ended !== null, options.graceMs)
    const [streamCounts, webSocketCounts] = await wait(
      Promise.all([streams.finish(ended === null ? 0 : hungMs), webSockets.finish(ended === null ? 0 : hungMs)])
    )
    const process = await processResult(
      server, { end: ended, open, target: options.url === null ? target.address : null, signalAt, record, graceMs: options.graceMs, startMs: server.owned ? readyAt - startedAt : null }
    )
    const began = record.marks.began
    return {
      requests: names,
      restart: {
        url: target.url,
        before: record.before,
        after: record.after,
        statuses: record.statuses,
        streams: streamCounts,
        webSockets: webSocketCounts,
        process,
        failures: record.samples(),
        bars: record.bars(),
        marks: { signal: round(signalAt - began), end: ended === null ? null : round(ended.at - began) }
      }
    }
  } finally {
    await traffic.abandon(0)
    await Promise.all([streams.finish(0), webSockets.finish(0)])
  }
}

/** Ends the traffic. @returns the silence that counts as hung, in milliseconds */
async function finishTraffic (traffic: Traffic, ended: boolean, graceMs: number): Promise<number> {
  traffic.stop()
  const hungMs = ended ? Math.min(graceMs / 2, 2_000) : graceMs / 2
  if (ended) await traffic.settle(hungMs)
  await traffic.abandon(hungMs * 0.9)
  return hungMs
}

interface Seen {
  /** Its end within the grace period. The end of the traffic may end it later. */
  readonly end: ProcessEnd | null
  /** Its listening sockets before the signal. */
  readonly open: readonly Address[]
  /** Where it answers, if the drill has found it. */
  readonly target: Address | null
  readonly signalAt: number
  readonly record: Record
  readonly graceMs: number
  readonly startMs: number | null
}

async function processResult (
  server: Server, { end, open, target, signalAt, record, graceMs, startMs }: Seen
): Promise<ProcessResult> {
  const { pid } = server
  const { leaving, refused, lastServed } = record.marks
  const orphans = end === null ? [] : await remaining(server)
  const closingAt = refused !== null && (end === null || refused < end.at) ? refused : end?.at ?? null
  const drainingAt = leaving !== null && (closingAt === null || leaving < closingAt) ? leaving : null
  const openListeners = await stillOpen(
    server, open, target, end === null ? [pid, ...server.tree.descendants()] : orphans
  )
  const since = (
    from: number | null, to: number | null
  ): number | null => from === null || to === null ? null : round(to - from)
  return {
    pid,
    ended: end !== null,
    exitCode: end?.code ?? null,
    signal: end?.signal ?? null,
    // It serves as before until the end of the grace period, without a sign of a shutdown.
    ignoredSignal: end === null && leaving === null && refused === null && (lastServed ?? 0) > signalAt + graceMs * 0.75,
    orphans: orphans.map(pid => ({ pid, command: commandOf(pid) })),
    openListeners,
    phases: {
      start: startMs === null ? null : round(startMs),
      serving: since(signalAt, drainingAt ?? closingAt),
      draining: since(drainingAt, closingAt),
      closing: since(refused === null ? null : closingAt, end?.at ?? null),
      total: since(signalAt, end?.at ?? null)
    }
  }
}

/** Returns what is left of the tree. Children of a process that ends at the same moment get a short time. */
async function remaining (server: Server): Promise<number[]> {
  for (const deadline = now() + childrenMs; ; await sleep(25)) {
    const pids = server.tree.descendants()
    if (pids.length === 0 || now() > deadline) return pids
  }
}

/** Returns which of the listening sockets before the signal are still open. The system accepts connections to them. */
async function stillOpen (
  server: Server, open: readonly Address[], target: Address | null, pids: readonly number[]
): Promise<string[]> {
  const held = new Set((await findListeners(pids)).map(formatListener))
  if (open.length > 0) return open.map(formatListener).filter(listener => held.has(listener))
  // Where the sockets of the process are not visible, the port itself shows it. A URL may be that of a proxy.
  return server.owned && target !== null && await accepts(target) ? [formatListener(target)] : []
}

async function accepts (address: Address): Promise<boolean> {
  const socket = await openSocketWithin(1_000, address).catch(() => null)
  if (socket === null || 'kind' in socket) return false
  socket.destroy()
  return true
}

function list (names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`
}
