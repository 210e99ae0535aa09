/** WebSockets that are open at the signal, and how they end. */
import { randomBytes } from 'node:crypto'
import { after, within } from '../../util/time'
import { receiveAnswer } from './answer'
import { CannotRunError } from './cannot-run'
import { openSocket } from './connection'
import { perPath } from './streams'
import type { Target } from './target'
import { controlFrame, createFrameReader } from './websocket-frames'

/** How the WebSockets that were open at the signal ended. */
export interface WebSocketCounts {
  /** Open at the signal. */
  opened: number
  /** The server sent a close frame. */
  closed: number
  /** Close codes of the server; 1005 if a close frame has none. */
  codes: { [code: string]: number }
  /** The connection ended without a close frame. */
  dropped: number
  /** Open at the end of the drill. */
  hung: number
}

/** Open WebSockets. */
export interface WebSockets {
  /** The signal is sent now. */
  signal (): void
  /** Waits at most `ms` milliseconds for their end, and counts. */
  finish (ms: number): Promise<WebSocketCounts>
}

interface OpenWebSocket {
  readonly ended: Promise<void>
  /** The code of the close frame, `dropped`, or `null` while it is open. */
  readonly ending: number | 'dropped' | null
  destroy (): void
}

/** Longest wait for the answer to the upgrade, in milliseconds. */
const upgradeTimeout = 10_000

/** Returns counts of zero. */
export function noWebSockets (): WebSocketCounts {
  return { opened: 0, closed: 0, codes: {}, dropped: 0, hung: 0 }
}

/** Opens the WebSockets. @throws CannotRunError if a path does not answer 101 */
export async function openWebSockets (target: Target, paths: readonly string[]): Promise<WebSockets> {
  const results = await Promise.allSettled(
    paths.flatMap(path => Array<string>(perPath).fill(path)).map(path => open(target, path))
  )
  const all = results.flatMap(result => result.status === 'fulfilled' ? [result.value] : [])
  const failed = results.find(result => result.status === 'rejected')
  if (failed !== undefined) {
    for (const socket of all) socket.destroy()
    throw failed.reason
  }
  let atSignal: OpenWebSocket[] = []
  return {
    signal () { atSignal = all.filter(({ ending }) => ending === null) },
    async finish (ms) {
      await within(ms, () => Promise.all(atSignal.map(({ ended }) => ended)))
      const counts = noWebSockets()
      for (const { ending } of atSignal) {
        counts.opened++
        if (ending === null) counts.hung++
        else if (ending === 'dropped') counts.dropped++
        else {
          counts.closed++
          counts.codes[ending] = (counts.codes[ending] ?? 0) + 1
        }
      }
      for (const socket of all) socket.destroy()
      return counts
    }
  }
}

async function open ({ address, host }: Target, path: string): Promise<OpenWebSocket> {
  const socket = await openSocket(address)
  if ('kind' in socket) throw new CannotRunError(`WebSocket ${path}: the connection was ${socket.kind}`)
  const answer = receiveAnswer('GET')
  const readFrames = createFrameReader()
  let ending: OpenWebSocket['ending'] = null
  let isOpen = false
  const ended = new Promise<void>(resolve => {
    socket.once('close', () => {
      ending ??= 'dropped'
      resolve()
    })
  })
  const receive = (bytes: Buffer): void => {
    for (const { opcode, payload } of readFrames(bytes)) {
      if (opcode === 'ping') socket.write(controlFrame('pong', payload))
      if (opcode !== 'close' || ending !== null) continue
      ending = payload.length >= 2 ? payload.readUInt16BE(0) : 1005
      socket.write(controlFrame('close', payload.subarray(0, 2)))
      // The server closes the connection (RFC 6455, 7.1.1), and some do not.
      after(1_000, () => socket.destroy(), { keepAlive: false })
    }
  }
  socket.on('end', () => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    const fail = (): void => {
      const status = answer.head === null ? 'no answer' : `status ${answer.head.status}`
      cancel()
      socket.destroy()
      reject(new CannotRunError(`${path} does not accept a WebSocket: ${status}`))
    }
    const cancel = after(upgradeTimeout, fail)
    socket.once('close', fail)
    socket.on('data', chunk => {
      if (isOpen) return receive(chunk)
      answer.push(chunk)
      if (answer.state === 'complete' || answer.state === 'invalid') return fail()
      if (answer.state !== 'upgraded') return
      isOpen = true
      cancel()
      socket.off('close', fail)
      receive(answer.rest)
      resolve()
    })
    socket.write(
      `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n` +
      `sec-websocket-key: ${randomBytes(16).toString('base64')}\r\n\r\n`
    )
  })
  return {
    ended,
    get ending () { return ending },
    destroy () { socket.destroy() }
  }
}
