/**
 * The traffic while the service restarts: requests of every kind at a fixed rate over keep-alive connections, whether
 * answers arrive or not, and WebSockets that stay open.
 *
 * No request is repeated, although browsers and client libraries do. With `repeat`, a GET that fails on a reused
 * connection is sent once more (RFC 9110, section 9.2.2). A request without its complete and correct answer
 * is a failure. A WebSocket that is closed with a close frame (1001, "going away") is not a failure if its client can
 * open a new one, because no protocol moves it to another server. A WebSocket that closes without a close frame (1006)
 * is a failure.
 */
import http from 'node:http'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { WebSocket } from 'ws'

const tick = 10
const patience = 10_000
const upload = randomBytes(1024 * 1024)

/** Share of each kind in all requests. */
const shares = { get: 0.38, agent: 0.2, slow: 0.12, post: 0.15, order: 0.1, upload: 0.02, stream: 0.03 }
const gets = ['get', 'agent', 'slow', 'stream']
const webSockets = { count: 12, messageEvery: 200 }

/**
 * @param {{ url: string, rate: number, without: readonly string[], repeat?: boolean, onFailure?: (what: string) => void }} options
 */
export function startTraffic ({ url, rate, without, repeat = false, onFailure = () => {} }) {
  const pool = new Pool(url, { connections: 24, headersTimeout: patience, bodyTimeout: patience })
  const streams = new Pool(url, { connections: 32, headersTimeout: patience, bodyTimeout: patience })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
  const counts = { requests: 0, repeated: 0, failures: new Map(), webSocketsClosed: 0, orders: new Set() }
  const inFlight = new Set()
  let stopping = false
  let stopped = null

  const kinds = {
    async get () {
      expect(await ask('GET', '/'), 200, body => body.hello === 'world')
    },
    async agent () {
      expect(await askWithAgent('/'), 200, body => body.hello === 'world')
    },
    async slow () {
      const ms = 50 + Math.floor(Math.random() * 250)
      expect(await ask('GET', `/slow?ms=${ms}`), 200, body => Number(body.waited) === ms)
    },
    async post () {
      const text = 'x'.repeat(1 + Math.floor(Math.random() * 4_000))
      expect(await ask('POST', '/echo', JSON.stringify({ text })), 200, body => body.length === text.length)
    },
    async order () {
      const id = randomUUID()
      expect(await ask('POST', '/orders', JSON.stringify({ id })), 201, body => body.id === id)
      counts.orders.add(id)
    },
    async upload () {
      expect(await ask('POST', '/uploads', upload, 'application/octet-stream'), 200, body => body.bytes === upload.length)
    },
    async stream () {
      const { statusCode, headers, body } = await streams.request({ method: 'GET', path: '/stream' })
      const text = await body.text()
      if (statusCode !== 200) throw new Failure(statusFor(statusCode, headers))
      if (!text.endsWith('end\n')) throw new Failure('truncated')
    }
  }
  const running = Object.keys(kinds).filter(kind => !without.includes(kind))
  const due = new Map(running.map(kind => [kind, Math.random()]))
  const began = performance.now()
  let ticks = 0
  const timer = setInterval(() => {
    // By the clock, so that the rate does not fall on a busy machine. Requests that are late are sent together.
    for (const until = (performance.now() - began) / tick; ticks < until; ticks++) {
      for (const kind of running) {
        due.set(kind, due.get(kind) + rate * shares[kind] * tick / 1_000)
        for (; due.get(kind) >= 1; due.set(kind, due.get(kind) - 1)) begin(kind)
      }
    }
  }, tick)
  const sockets = without.includes('websocket') ? [] : Array.from({ length: webSockets.count }, () => keepWebSocket())

  return {
    counts,
    stop: () => (stopped ??= stop())
  }

  async function stop () {
    clearInterval(timer)
    stopping = true
    await Promise.all([...inFlight])
    await Promise.all(sockets.map(socket => socket.stop()))
    await Promise.all([pool.close(), streams.close()])
    agent.destroy()
  }

  function begin (kind) {
    counts.requests++
    const request = send(kind).catch(error => fail(kind, error)).finally(() => inFlight.delete(request))
    inFlight.add(request)
  }

  async function send (kind) {
    try {
      return await kinds[kind]()
    } catch (error) {
      if (!repeat || !gets.includes(kind) || !isReused(error)) throw error
      counts.repeated++
      return await kinds[kind]()
    }
  }

  function fail (kind, error) {
    const what = `${kind}: ${wordFor(error)}`
    counts.failures.set(what, (counts.failures.get(what) ?? 0) + 1)
    onFailure(`${what} (${error.message})${error.socket ? ' ' + JSON.stringify(error.socket) : ''}`)
  }

  async function ask (method, path, body = null, type = 'application/json') {
    const answer = await pool.request({ method, path, body, headers: body === null ? {} : { 'content-type': type } })
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() }
  }

  function askWithAgent (path) {
    return new Promise((resolve, reject) => {
      const request = http.get(url + path, { agent, timeout: patience }, answer => {
        let text = ''
        answer.setEncoding('utf8').on('data', part => { text += part }).on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text })).on('error', reject)
      })
      request.on('error', error => reject(Object.assign(error, { reusedSocket: request.reusedSocket })))
      request.on('timeout', () => request.destroy(new Failure('no answer')))
    })
  }

  /** One client with a WebSocket: it sends messages, gets their echoes, and connects again when it is closed. */
  function keepWebSocket () {
    let socket
    const over = live()
    return {
      async stop () {
        socket?.close(1000)
        await over
      }
    }

    async function live () {
      await sleep(Math.random() * webSockets.messageEvery)
      for (;;) {
        if (stopping) return
        await connectOnce()
        if (!stopping) await sleep(Math.random() * 50)
      }
    }

    function connectOnce () {
      return new Promise(resolve => {
        const unanswered = new Map()
        let sent = 0
        let broken = null
        let talking
        socket = new WebSocket(url.replace('http', 'ws') + '/ws', { handshakeTimeout: patience })
        socket.on('open', () => {
          if (stopping) return socket.close(1000)
          talking = setInterval(() => {
            for (const since of unanswered.values()) {
              if (performance.now() - since < patience) continue
              broken = new Failure('no echo')
              socket.terminate()
              return
            }
            unanswered.set(`message ${++sent}`, performance.now())
            socket.send(`message ${sent}`)
          }, webSockets.messageEvery)
        })
        socket.on('message', message => unanswered.delete(message.toString()))
        socket.on('unexpected-response', (_request, answer) => {
          broken = new Failure(`upgrade answered ${statusFor(answer.statusCode, answer.headers)}`)
          answer.resume()
          socket.terminate()
        })
        socket.on('error', error => { broken ??= error })
        socket.on('close', code => {
          clearInterval(talking)
          if (broken !== null || code === 1006) fail('websocket', broken ?? new Failure('closed 1006'))
          else if (!stopping) counts.webSocketsClosed++
          resolve()
        })
      })
    }
  }
}

class Failure extends Error {}

/**
 * Returns the text of an error in the table. A failure on a reused connection is a race of HTTP/1.1: the server closes
 * an idle connection while its client sends a request (RFC 9112, section 9.5).
 */
function wordFor (error) {
  if (error instanceof Failure) return error.message
  if (error.message.includes('Invalid EOF state')) return 'truncated'
  return (error.code === 'UND_ERR_SOCKET' ? error.message : error.code ?? error.message) + (isReused(error) ? ' on a reused connection' : '')
}

/** Whether the request failed before its answer began, on a connection that has carried an answer before. */
function isReused (error) {
  if (error instanceof Failure || error.message.includes('Invalid EOF state')) return false
  return error.reusedSocket === true || error.socket?.bytesRead > 0
}

function expect ({ status, headers, text }, expected, isRight) {
  if (status !== expected) throw new Failure(statusFor(status, headers))
  if (!isRight(JSON.parse(text))) throw new Failure('wrong answer')
}

/** Names a 503 with Retry-After, which is one of this package. A proxy without an instance sends a 503 without it. */
function statusFor (status, headers) {
  return `status ${status}${headers['retry-after'] === undefined ? '' : ' with Retry-After'}`
}
