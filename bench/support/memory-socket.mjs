/**
 * Requests through Node's real HTTP parser without a network: the least noisy way to see what a request costs. Each
 * socket sends its next request when it has its answer, so nothing is pipelined.
 */
import { Duplex } from 'node:stream'

export class MemorySocket extends Duplex {
  constructor (onAnswer) {
    // Strings stay strings, as in net.Socket.
    super({ decodeStrings: false })
    this.onAnswer = onAnswer
  }

  _read () {}

  _write (chunk, encoding, done) {
    // An answer is one chunk, head and body; the empty chunk that ends it comes behind.
    if (chunk.length > 0) this.onAnswer(this, chunk)
    done()
  }

  // net.Socket has it, and http.Server ends a `Connection: close` with it: what is written goes out first.
  destroySoon () {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', this.destroy)
  }
}

export const keepAlive = Buffer.from('GET / HTTP/1.1\r\nHost: bench\r\n\r\n')
export const close = Buffer.from('GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n')
export const held = Buffer.from('GET /held HTTP/1.1\r\nHost: bench\r\n\r\n')

/** Open so many connections to the server. @returns `send(n)`, which sends at least `n` requests over them and waits for their answers. */
export function keepAliveClients (server, count = 20) {
  let answered = 0
  let last = ''
  const sockets = Array.from({ length: count }, () => new MemorySocket((socket, chunk) => {
    answered++
    last = chunk
  }))
  for (const socket of sockets) server.emit('connection', socket)
  return {
    async send (requests) {
      const turns = Math.ceil(requests / count)
      answered = 0
      await inTurns(turns, turn => {
        check(turn)
        for (const socket of sockets) socket.push(keepAlive)
      })
      check(turns)
      // A contender that answers with errors is measured as nothing.
      if (!String(last).startsWith('HTTP/1.1 200 ')) throw new Error(`Expected 200, got ${last}`)
    }
  }

  function check (turns) {
    if (answered !== turns * count) throw new Error(`${answered} of ${turns * count} requests were answered in their turn`)
  }
}

/** A fresh connection for each request. @returns the first answer */
export async function oneShotClients (server, requests, request = close, count = 20) {
  let answered = 0
  let first = ''
  const onAnswer = (socket, chunk) => { if (answered++ === 0) first = String(chunk) }
  const rounds = Math.ceil(requests / count)
  await inTurns(rounds, () => {
    for (let i = 0; i < count; i++) {
      const socket = new MemorySocket(onAnswer)
      server.emit('connection', socket)
      socket.push(request)
    }
  })
  if (answered !== rounds * count) throw new Error(`${answered} of ${rounds * count} requests were answered`)
  return first
}

/** Requests whose client goes away before there is an answer. */
export async function abortingClients (server, requests, count = 20) {
  let gone = []
  await inTurns(Math.ceil(requests / count), () => {
    for (const socket of gone) socket.destroy()
    gone = Array.from({ length: count }, () => new MemorySocket(() => {}))
    for (const socket of gone) {
      server.emit('connection', socket)
      socket.push(held)
    }
  })
  for (const socket of gone) socket.destroy()
  await new Promise(resolve => setImmediate(resolve))
}

/** `each` once for each turn of the event loop, so that whatever it began is over before it is called again. */
function inTurns (turns, each) {
  return new Promise((resolve, reject) => {
    let turn = 0
    const next = () => {
      try {
        if (turn === turns) return resolve()
        each(turn++)
        setImmediate(next)
      } catch (error) {
        reject(error)
      }
    }
    next()
  })
}
