/** Clients over raw sockets: HTTP/1.1 with keep-alive, one-shot and pipelined, crowds of them, and WebSockets. */
import { connect } from 'node:net'
import { uploadSize } from './routes.mjs'

/**
 * Longest time of a visit, and of the server's answer to a half-close, in milliseconds. After it the client destroys
 * its socket.
 */
const longest = 10_000
const longestHalfClosed = 200

/** Time between two chunks that a slow reader reads, in milliseconds. */
const slowRead = 10

const halfOfUpload = Buffer.alloc(uploadSize / 2, 'x')

/** @returns resolves when the connection is closed: 'done', or 'overdue' if the visit took too long */
export function visitHttp1 (port, { shape, targets, when, how, ms }) {
  const requests = targets.map(target => head(target, shape === 'one-shot'))
  const { kind } = targets.at(-1)
  const inTurn = shape === 'keep-alive' ? requests.map(request => [request]) : [requests]
  return converse(port, socket => {
    let turn = 0
    let answered = 0
    const countAnswers = answerCounter()
    socket.on('data', chunk => {
      if (turn === inTurn.length && when === 'streaming') return leave(socket, how)
      answered += countAnswers(chunk)
      if (answered < inTurn.slice(0, turn).flat().length) return
      if (turn < inTurn.length) next()
      else if (when === 'answered') leave(socket, how)
    })
    next()

    function next () {
      const text = inTurn[turn++].join('')
      if (turn < inTurn.length) return socket.write(text)
      // Half a head is no request to the server.
      socket.write(when === 'head' ? text.slice(0, -8) : text)
      if (kind === 'uploads') {
        socket.write(halfOfUpload)
        // Not at once: a body that has come with its head is never incomplete.
        if (when !== 'body') setTimeout(() => { if (socket.writable) socket.write(halfOfUpload) }, 2)
      }
      if (when === 'sent') leave(socket, how)
      else if (when === 'head' || when === 'body' || when === 'handler') setTimeout(leave, ms, socket, how)
    }
  })
}

/** As many connections as the crowd has. They are reset in one turn. */
export async function visitAsCrowd (port, { targets, connections, how, ms }) {
  const text = targets.map(target => head(target)).join('')
  const sockets = []
  const results = await Promise.all(Array.from({ length: connections }, () => converse(port, socket => {
    socket.write(text)
    sockets.push(socket)
    if (sockets.length === connections) setTimeout(() => sockets.forEach(socket => leave(socket, how)), ms)
  })))
  return results.includes('overdue') ? 'overdue' : 'done'
}

/** Reads one chunk now and then, and leaves in the middle of the answers. */
export function visitSlowly (port, { targets, how, ms }) {
  const text = targets.map(target => head(target)).join('')
  return converse(port, socket => {
    socket.on('data', () => socket.pause())
    const reader = setInterval(() => socket.resume(), slowRead)
    socket.once('close', () => clearInterval(reader))
    socket.write(text)
    setTimeout(() => {
      clearInterval(reader)
      leave(socket, how)
      // The close is seen only by a socket that reads.
      socket.removeAllListeners('data').resume()
    }, ms)
  })
}

const handshake = 'GET /socket HTTP/1.1\r\nHost: soak\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'

/**
 * A client frame (RFC 6455, section 5.2) with a mask of zeros: FIN and the opcode, the length, the mask, the payload.
 */
const frame = (opcode, payload) => Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload])
const message = frame(1, Buffer.from('message'))
const closeFrame = frame(8, Buffer.from([1_000 >> 8, 1_000 & 0xff]))

export function visitWebSocket (port, { when, how, ms, messages }) {
  return converse(port, socket => {
    let open = false
    let left = messages
    socket.write(handshake)
    if (when === 'handshake') return leave(socket, how)
    socket.on('data', () => {
      if (!open) {
        open = true
        if (when === 'open') return setTimeout(leave, ms, socket, how)
      }
      if (left-- > 0) return socket.write(message)
      if (when === 'message') leave(socket, how)
      if (when === 'closed' && left === -1) socket.write(closeFrame) // the server answers it and closes
      if (when === 'half-frame' && left === -1) {
        socket.write(message.subarray(0, 9))
        setTimeout(leave, ms, socket, how)
      }
    })
  })
}

/** @returns the head of a request */
export function head ({ method, url, type, kind }, lastOfConnection = false) {
  const body = kind === 'uploads' ? `Content-Type: ${type}\r\nContent-Length: ${uploadSize}\r\n` : ''
  return `${method} ${url} HTTP/1.1\r\nHost: soak\r\n${lastOfConnection ? 'Connection: close\r\n' : ''}${body}\r\n`
}

/** Connect and talk until the connection is closed. */
function converse (port, talk) {
  return new Promise(resolve => {
    let result = 'done'
    const socket = connect(port, '127.0.0.1', () => talk(socket))
    const timer = setTimeout(() => {
      result = 'overdue'
      socket.destroy()
    }, longest)
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(result)
    })
    // The server may end the connection first. The socket emits 'close' only if it is read to its end.
    socket.resume()
  })
}

/** End this client's side: a reset, a close of both directions, or a FIN after which it still reads. */
export function leave (socket, how) {
  if (socket.destroyed || socket.writableEnded) return
  if (how === 'reset') return socket.resetAndDestroy()
  if (how === 'destroy') return socket.destroy()
  socket.end()
  const timer = setTimeout(() => socket.destroy(), longestHalfClosed)
  socket.once('close', () => clearTimeout(timer))
}

/** @returns takes the next bytes of a connection, and returns how many answers ended in them */
function answerCounter () {
  const headEnd = '\r\n\r\n'
  const lastChunk = '\r\n0\r\n\r\n'
  let text = ''
  /** Bytes of the body that have not come yet, or `null` for a chunked one. `undefined`: the head has not come yet. */
  let rest

  return chunk => {
    let answers = 0
    text += chunk.latin1Slice()
    for (;;) {
      if (rest === undefined) {
        const end = text.indexOf(headEnd)
        if (end === -1) return answers
        const length = /content-length: (\d+)/i.exec(text.slice(0, end))
        rest = length === null ? null : Number(length[1])
        // The line break stays: the last chunk may be the first one.
        text = text.slice(length === null ? end + 2 : end + headEnd.length)
      }
      if (rest === null) {
        const end = text.indexOf(lastChunk)
        if (end === -1) {
          text = text.slice(-lastChunk.length)
          return answers
        }
        text = text.slice(end + lastChunk.length)
      } else {
        const taken = Math.min(rest, text.length)
        rest -= taken
        text = text.slice(taken)
        if (rest > 0) return answers
      }
      rest = undefined
      answers++
    }
  }
}
