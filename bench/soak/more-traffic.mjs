/**
 * The traffic that the rolling-restart proof does not have: HTTP/2 streams over one session, and server-sent events. It
 * has the same rules: no request is retried, and every answer is checked. Only a refused HTTP/2 stream is sent again.
 */
import http from 'node:http'
import { connect, constants } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'

const patience = 10_000
/** Clients of server-sent events, and how long each of them stays, in milliseconds. */
const eventClients = 4
const stay = { min: 3_000, max: 12_000 }
/** What `sse()` sends at the end, without the data. */
const endMarker = /\nevent: \S+\nretry: \d+\ndata: .*\n\n$/

/** @param rate HTTP/2 requests per second */
export function startMoreTraffic ({ url, http2Url, rate, onFailure }) {
  const counts = { requests: 0, streamsEnded: 0, refused: 0 }
  const stopping = new AbortController()
  const inFlight = new Set()
  let session = null
  const timer = setInterval(() => begin('http2', askHttp2), 1_000 / rate)
  const clients = Array.from({ length: eventClients }, followEvents)

  return {
    counts,
    async stop () {
      clearInterval(timer)
      stopping.abort()
      await Promise.all([...inFlight, ...clients])
      session?.close()
    }
  }

  function begin (kind, ask) {
    counts.requests++
    const request = ask().catch(error => {
      onFailure(`${kind}: ${error.message}`)
    }).finally(() => inFlight.delete(request))
    inFlight.add(request)
    return request
  }

  async function askHttp2 () {
    const kind = Math.floor(Math.random() * 3)
    if (kind === 0) return expect(await stream({ ':path': '/' }), body => body.hello === 'world')
    if (kind === 1) {
      const ms = 50 + Math.floor(Math.random() * 250)
      return expect(await stream({ ':path': `/slow?ms=${ms}` }), body => Number(body.waited) === ms)
    }
    const text = 'x'.repeat(1 + Math.floor(Math.random() * 4_000))
    const answer = await stream({ ':method': 'POST', ':path': '/echo', 'content-type': 'application/json' }, JSON.stringify({ text }))
    return expect(answer, body => body.length === text.length)
  }

  /** A refused stream was not processed (RFC 9113, section 8.7). HTTP/2 clients send it again, also a POST. */
  async function stream (headers, body) {
    try {
      return await streamOnce(headers, body)
    } catch (error) {
      if (error.rstCode !== constants.NGHTTP2_REFUSED_STREAM) throw error
      counts.refused++
      return await streamOnce(headers, body)
    }
  }

  function streamOnce (headers, body) {
    if (session === null || session.closed || session.destroyed) session = connect(http2Url).on('error', () => {})
    return new Promise((resolve, reject) => {
      const request = session.request(headers)
      let status
      let text = ''
      request.setTimeout(patience, () => { request.destroy(new Error('no answer')) })
      request.setEncoding('utf8')
      request.on('response', headers => { status = headers[':status'] })
      request.on('data', part => { text += part })
      request.on('end', () => resolve({ status, text }))
      request.on('error', error => reject(Object.assign(error, { rstCode: request.rstCode })))
      request.on('close', () => reject(Object.assign(new Error(`reset with code ${request.rstCode}`), { rstCode: request.rstCode })))
      request.end(body)
    })
  }

  async function followEvents () {
    while (!stopping.signal.aborted) {
      await begin('events', readEvents)
      await sleep(Math.random() * 100)
    }
  }

  /** The client leaves after some time, or gets the end marker before the server ends the answer. */
  function readEvents () {
    return new Promise((resolve, reject) => {
      let text = ''
      let isLeaving = false
      const request = http.get(`${url}/events`, { agent: false }, answer => {
        if (answer.statusCode !== 200) reject(new Error(`status ${answer.statusCode}`))
        answer.setEncoding('utf8').on('data', part => { text += part })
        answer.on('error', () => {})
        answer.on('close', () => {
          if (isLeaving) return resolve()
          counts.streamsEnded++
          if (answer.complete && endMarker.test(text)) resolve()
          else reject(new Error(answer.complete ? 'ended without its end marker' : 'truncated'))
        })
      })
      const leave = () => {
        isLeaving = true
        request.destroy()
        resolve()
      }
      const timer = setTimeout(leave, stay.min + Math.random() * (stay.max - stay.min))
      stopping.signal.addEventListener('abort', leave)
      request.on('error', error => { if (!isLeaving) reject(error) })
      request.on('close', () => {
        clearTimeout(timer)
        stopping.signal.removeEventListener('abort', leave)
      })
    })
  }
}

function expect ({ status, text }, isRight) {
  if (status !== 200) throw new Error(`status ${status}`)
  if (!isRight(JSON.parse(text))) throw new Error('wrong answer')
}
