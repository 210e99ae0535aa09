/**
 * HTTP/2 clients: sessions whose streams are cancelled at any moment, sessions that end under their streams, and rapid
 * resets.
 */
import { connect as openSession, constants } from 'node:http2'
import { connect } from 'node:net'
import { connect as secure } from 'node:tls'
import { leave } from './http1.mjs'
import { uploadSize } from './routes.mjs'

/** Longest time of a visit, in milliseconds. */
const longest = 10_000

const halfOfUpload = Buffer.alloc(uploadSize / 2, 'x')

/** @returns resolves when the session and its connection are closed: 'done', or 'overdue' if the visit took too long */
export function visitSession (port, { streams, how, ms }, ca) {
  return converse(port, ca, (socket, raw) => {
    const session = openSession('http://localhost', { createConnection: () => socket })
    session.on('error', () => {})
    let left = streams.length
    for (const stream of streams) open(stream)
    // Some streams are never cancelled. They end with the session.
    const timer = setTimeout(end, ms + 10)
    session.once('close', () => clearTimeout(timer))

    function open ({ target, when, ms, cancels }) {
      if (session.destroyed || session.closed) return
      const isUpload = target.kind === 'uploads'
      const stream = session.request({ ':method': target.method, ':path': target.url, ...(isUpload && { 'content-type': target.type }) }, { endStream: !isUpload })
      const cancel = () => { if (cancels && !stream.destroyed) stream.close(constants.NGHTTP2_CANCEL) }
      stream.on('error', () => {})
      if (isUpload) {
        stream.write(halfOfUpload)
        if (when !== 'body') stream.end(halfOfUpload)
      }
      stream.once('close', () => { if (--left === 0) setImmediate(end) })
      if (when === 'sent') setImmediate(cancel)
      else if (when === 'handler' || when === 'body') setTimeout(cancel, ms)
      else if (when === 'streaming') stream.once('data', cancel)
      stream.resume()
    }

    function end () {
      if (session.destroyed) return
      if (how === 'reset') return raw.resetAndDestroy()
      if (how === 'destroy') session.destroy()
      else session.close()
      // A stream without an answer keeps the session open that closes by itself, and Node waits for the server's FIN.
      setTimeout(() => socket.destroy(), 20)
    }
  })
}

const frameTypes = { headers: 1, reset: 3, settings: 4 }
const endOfHeadersAndStream = 0x5
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(frameTypes.settings, 0, 0, Buffer.alloc(0))])

/** Each stream is opened and cancelled in the same write: what is known as rapid reset (CVE-2023-44487). */
export function visitRapidly (port, { targets, how, ms }, ca) {
  return converse(port, ca, (socket, raw) => {
    const code = Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL])
    const frames = targets.flatMap(({ url }, i) => [
      frame(frameTypes.headers, endOfHeadersAndStream, 2 * i + 1, headersOf(url, ca !== undefined)),
      frame(frameTypes.reset, 0, 2 * i + 1, code)
    ])
    socket.resume()
    socket.write(Buffer.concat([preface, ...frames]), () => setTimeout(leave, ms, how === 'reset' ? raw : socket, how))
  })
}

/** A frame (RFC 9113, section 4.1): length, type, flags, stream, payload. */
function frame (type, flags, stream, payload) {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(stream, 5)
  return Buffer.concat([header, payload])
}

/**
 * HPACK (RFC 7541): GET and the scheme from the static table; `:path` and `:authority` as literals with an indexed
 * name.
 */
function headersOf (path, secure) {
  const literal = (name, text) => Buffer.concat([Buffer.from([name, text.length]), Buffer.from(text)])
  return Buffer.concat([Buffer.from([0x82, secure ? 0x87 : 0x86]), literal(0x04, path), literal(0x01, 'localhost')])
}

/** @param ca the server's certificate, if the connection uses TLS */
function converse (port, ca, talk) {
  return new Promise(resolve => {
    let result = 'done'
    const raw = connect(port, '127.0.0.1')
    // The TLS socket takes the handle of the raw one, so that only its own `destroy()` closes the connection.
    const socket = ca === undefined ? raw : secure({ socket: raw, ca, servername: 'localhost', ALPNProtocols: ['h2'] })
    const timer = setTimeout(() => {
      result = 'overdue'
      socket.destroy()
    }, longest)
    socket.once(ca === undefined ? 'connect' : 'secureConnect', () => talk(socket, raw))
    socket.on('error', () => {})
    raw.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(result)
    })
  })
}
