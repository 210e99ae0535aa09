/** How the process of one restart ended: its phases, its exit code, and the children and listeners that are left. */
import { now, sleep } from '../../util/time'
import { findListeners, formatListener } from './listeners'
import { commandOf } from './process-table'
import { round, type Record } from './record'
import type { ProcessResult } from './result'
import type { ProcessEnd, Server } from './server'
import { openSocketWithin, type Address } from './socket'

/** Longest wait for children after the end of the process, in milliseconds. */
const childrenMs = 500

/** What was seen of a process during the drill. */
export interface Seen {
  /** Its end; `null` if it did not end within the grace period. It may end later, when the traffic ends. */
  readonly end: ProcessEnd | null
  /** Its listening sockets before the signal. */
  readonly open: readonly Address[]
  /** Where it answers, if the drill has found it. */
  readonly target: Address | null
  /** When the signal was sent, on the clock of `now()`. */
  readonly signalAt: number
  readonly record: Record
  readonly graceMs: number
  /** How long the start took; `null` for a server that the drill has not started. */
  readonly startMs: number | null
}

/** Finds out how the process of a restart ended, and what is left of it. */
export async function processResult (
  server: Server, { end, open, target, signalAt, record, graceMs, startMs }: Seen
): Promise<ProcessResult> {
  const { pid } = server
  const { leaving, refused, lastServed } = record.marks
  const orphans = end === null ? [] : await remaining(server)
  const closingAt = refused !== null && (end === null || refused < end.at) ? refused : end?.at ?? null
  const drainingAt = leaving !== null && (closingAt === null || leaving < closingAt) ? leaving : null
  const left = end === null ? [pid, ...server.tree.descendants()] : orphans
  const openListeners = await stillOpen(server, open, target, left)
  const since = (from: number | null, to: number | null): number | null =>
    from === null || to === null ? null : round(to - from)
  return {
    pid,
    ended: end !== null,
    exitCode: end?.code ?? null,
    signal: end?.signal ?? null,
    // It served as before until the end of the grace period, without a sign of a shutdown.
    ignoredSignal:
      end === null && leaving === null && refused === null && (lastServed ?? 0) > signalAt + graceMs * 0.75,
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

/** Returns the children that are left. They get a short time, because they may end at the same moment. */
async function remaining (server: Server): Promise<number[]> {
  for (const deadline = now() + childrenMs; ; await sleep(25)) {
    const pids = server.tree.descendants()
    if (pids.length === 0 || now() > deadline) return pids
  }
}

/** Returns which of the listening sockets before the signal are still open. The kernel accepts connections to them. */
async function stillOpen (
  server: Server, open: readonly Address[], target: Address | null, pids: readonly number[]
): Promise<string[]> {
  const held = new Set((await findListeners(pids)).map(formatListener))
  if (open.length > 0) return open.map(formatListener).filter(listener => held.has(listener))
  // If the sockets of the process are not visible, a connection to the port shows it. A URL may be that of a proxy.
  return server.owned && target !== null && await accepts(target) ? [formatListener(target)] : []
}

async function accepts (address: Address): Promise<boolean> {
  const socket = await openSocketWithin(1_000, address).catch(() => null)
  if (socket === null || 'kind' in socket) return false
  socket.destroy()
  return true
}
