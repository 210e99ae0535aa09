/**
 * 10 000 real clients of one replica that goes. Each has one keep-alive connection that has been used and is idle. When
 * it is ended, its client connects again at once: to one of the two replicas that remain; or, where it is `stubborn`
 * (its balancer has not noticed yet), to the same one, whose 503 it obeys to the second before it goes elsewhere.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const request = 'GET / HTTP/1.1\r\nHost: herd\r\n\r\n'
const opening = 200

export async function measure ({ connections, env, stubborn = false }) {
  const replica = fork(new URL('replica.mjs', import.meta.url), { env: { ...process.env, ...env } })
  const remaining = [0, 1].map(() => fork(new URL('remaining.mjs', import.meta.url)))
  const children = [replica, ...remaining]
  const sockets = new Set()
  try {
    const [port, ...others] = await Promise.all(children.map(child => once(child, 'message').then(([{ port }]) => port)))
    let moved = 0
    const allMoved = withResolvers()
    // Not all at once: what is measured is how they leave.
    for (let n = 0; n < connections; n += opening) {
      await Promise.all(Array.from({ length: Math.min(opening, connections - n) }, (_, k) => settle(n + k)))
    }
    const holding = stubborn ? connect(port, 'GET /hold?ms=25000 HTTP/1.1\r\nHost: herd\r\n\r\n') : null
    await sleep(500)
    replica.kill('SIGTERM')
    await allMoved.promise
    holding?.destroy()
    const asked = remaining.map(child => { child.send('over'); return once(child, 'message') })
    const arrivals = (await Promise.all(asked)).flatMap(([{ arrivals }]) => arrivals).sort((a, b) => a - b)
    return figures(arrivals)

    /** Resolves when the client has its first answer. */
    function settle (n) {
      return new Promise(resolve => {
        const socket = connect(port, request)
        socket.once('data', resolve)
        socket.once('close', () => stubborn ? insist(n) : move(n))
      })
    }

    /** The same address again: a 503, and the wait it asks for. */
    function insist (n) {
      const socket = connect(port, request)
      let text = ''
      socket.on('data', part => { text += part })
      socket.once('close', () => {
        const [, seconds] = /retry-after: (\d+)/i.exec(text) ?? []
        if (seconds === undefined) insist(n) // the accept queue was full
        else setTimeout(move, Number(seconds) * 1_000, n)
      })
    }

    function move (n) {
      const socket = connect(others[n % others.length], request)
      socket.once('data', () => { if (++moved === connections) allMoved.resolve() })
    }
  } finally {
    for (const socket of sockets) socket.destroy()
    for (const child of children) child.kill('SIGKILL')
  }

  function connect (port, text) {
    const socket = createConnection(port, '127.0.0.1', () => socket.write(text))
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    return socket
  }
}

/** @param {number[]} arrivals in milliseconds, in order */
function figures (arrivals) {
  let peak = 0
  for (let first = 0, last = 0; last < arrivals.length; last++) {
    while (arrivals[last] - arrivals[first] >= 100) first++
    peak = Math.max(peak, last - first + 1)
  }
  const bins = new Map()
  for (const at of arrivals) {
    const bin = Math.floor((at - arrivals[0]) / 100)
    bins.set(bin, (bins.get(bin) ?? 0) + 1)
  }
  const counts = [...bins.values()].sort((a, b) => a - b)
  return { arrivals: arrivals.length, spanMs: arrivals.at(-1) - arrivals[0], peak, median: counts[Math.floor(counts.length / 2)] }
}

function withResolvers () {
  let resolve
  const promise = new Promise(_resolve => { resolve = _resolve })
  return { promise, resolve }
}
