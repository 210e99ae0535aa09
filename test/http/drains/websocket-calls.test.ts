/**
 * WebSockets with traffic: quiet ones are closed evenly in lame-duck, and a call that is being answered when draining
 * begins gets its answer.
 */
import { once } from 'node:events'
import fastifyWebsocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { createCalls } from '../../../lib/http/drains/websocket-calls'
import { eventually, portOf } from '../../helpers/client'
import { entered, serve, type Served } from '../../helpers/serve'
import { virtualTime } from '../../helpers/time'
import type { ShutdownOptions } from '../../../types/index'

const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

/** Answers each call, `{ id, ms }`, after `ms` milliseconds. With `end` it sends one more message behind each answer. */
function answerCalls (socket: WebSocket, end = false): void {
  socket.on('message', data => {
    const { id, ms } = JSON.parse(String(data)) as { id: number, ms: number }
    if (ms < 0) return
    setTimeout(() => {
      socket.send(JSON.stringify({ id }), () => { if (end) socket.send(JSON.stringify({ end: id })) })
    }, ms)
  })
}

interface Setup {
  readonly options?: ShutdownOptions
  readonly onSocket?: (socket: WebSocket) => void
  readonly deflate?: true
}

async function start (t: Test, { options = {}, onSocket = answerCalls, deflate }: Setup = {}): Promise<Served> {
  return await serve(t, {
    options,
    routes: async app => {
      await app.register(fastifyWebsocket, { options: deflate === undefined ? {} : { perMessageDeflate: { threshold: 0 } } })
      void app.register(async app => { app.get('/', { websocket: true }, socket => onSocket(socket)) })
    }
  })
}

interface Caller {
  readonly socket: WebSocket
  /** How many calls were sent. */
  readonly sent: number
  readonly answered: number
  readonly ended: number
  /** Sends a call if the socket is open. @returns whether it was answered; `null` if it was not sent */
  call(ms: number): Promise<boolean | null>
  /** The close code, and when it came (`performance.now()`). */
  readonly closed: Promise<{ readonly code: number, readonly at: number }>
}

async function open (app: FastifyInstance): Promise<Caller> {
  const socket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/`)
  const waiting = new Map<number, (answered: boolean) => void>()
  const count = { sent: 0, answered: 0, ended: 0 }
  socket.on('message', data => {
    const { id, end } = JSON.parse(String(data)) as { id?: number, end?: number }
    if (end !== undefined) count.ended++
    const resolve = waiting.get(id!)
    if (resolve === undefined) return
    count.answered++
    waiting.delete(id!)
    resolve(true)
  })
  const closed = new Promise<{ code: number, at: number }>(resolve => {
    socket.once('close', code => {
      for (const lost of waiting.values()) lost(false)
      resolve({ code, at: performance.now() })
    })
  })
  await once(socket, 'open')
  return {
    socket,
    get sent () { return count.sent },
    get answered () { return count.answered },
    get ended () { return count.ended },
    closed,
    call (ms) {
      if (socket.readyState !== WebSocket.OPEN) return Promise.resolve(null)
      const id = ++count.sent
      return new Promise(resolve => {
        waiting.set(id, resolve)
        socket.send(JSON.stringify({ id, ms }))
      })
    }
  }
}

const openMany = (app: FastifyInstance, count: number): Promise<Caller[]> => Promise.all(Array.from({ length: count }, () => open(app)))

/** Calls one after the other until the socket is closed. @returns the number of calls without an answer */
async function callUntilClosed (caller: Caller, duration: () => number, think = 0): Promise<number> {
  for (let lost = 0; ;) {
    const answered = await caller.call(duration())
    if (answered === null) return lost
    if (!answered) lost++
    if (think > 0) await pause(think)
  }
}

const between20And200 = (): number => 20 + Math.random() * 180

t.test('200 quiet WebSockets are closed evenly over lame-duck, with and without an earlier message', async t => {
  const delay = 2_000
  const { app, report } = await start(t, { options: { delay } })
  const callers = await openMany(app, 200)
  await Promise.all(callers.slice(0, 100).map(({ call }) => call(0)))
  await pause(600)
  const began = performance.now()
  void app.shutdown.start()
  const closed = await Promise.all(callers.map(({ closed }) => closed))
  t.ok(closed.every(({ code }) => code === 1001))
  const quarters = [0, 0, 0, 0]
  for (const { at } of closed) quarters[Math.min(3, Math.floor((at - began) / delay * 4))]!++
  t.ok(quarters.every(count => count >= 30 && count <= 75), `in the quarters of the time: ${quarters.join(', ')}`)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 200, terminated: 0 } })
})

t.test('a small number of quiet WebSockets is also closed evenly', async t => {
  const { app, report } = await start(t, { options: { delay: 1_000 } })
  const callers = await openMany(app, 4)
  const began = performance.now()
  void app.shutdown.start()
  const times = (await Promise.all(callers.map(({ closed }) => closed))).map(({ at }) => at - began).sort((a, b) => a - b)
  t.ok(times.every((time, index) => Math.abs(time - (index + 0.5) * 250) < 300), `closed at ${times.map(Math.round).join(', ')} ms`)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 4, terminated: 0 } })
})

t.test('busy WebSockets are closed when draining begins, if the client sends and if the server sends', async t => {
  const timers = new Set<NodeJS.Timeout>()
  t.teardown(() => timers.forEach(clearInterval))
  const repeat = (fn: () => void): void => { timers.add(setInterval(fn, 100)) }
  const { app, report } = await start(t, {
    options: { delay: 800 },
    onSocket (socket) {
      answerCalls(socket)
      socket.once('message', data => { if (String(data).includes('"push"')) repeat(() => socket.send('{}')) })
    }
  })
  const [quiet, pushed, calling, pinging] = await openMany(app, 4)
  pushed!.socket.send('{"push":true,"ms":-1}')
  repeat(() => { void calling!.call(1) })
  repeat(() => { if (pinging!.socket.readyState === WebSocket.OPEN) pinging!.socket.ping() })
  await pause(300)
  const phases: Record<string, string> = {}
  Object.entries({ quiet, pushed, calling, pinging }).forEach(([name, caller]) => { void caller!.closed.then(() => { phases[name] = app.shutdownState.phase }) })
  const ready = new Promise(resolve => app.shutdown.on('draining', () => resolve({ ...phases })))
  void app.shutdown.start()
  t.same(Object.keys(await ready as object).sort(), ['pinging', 'quiet'], 'a ping is not a message')
  t.match(await report, { outcome: 'clean', webSockets: { closed: 4, terminated: 0 } })
  for (const caller of [quiet, pushed, calling, pinging]) t.equal((await caller!.closed).code, 1001)
})

for (const [name, delay] of [['after a lame-duck', 500], ['without a lame-duck', 0]] as const) {
  for (const [how, think, setup] of [
    ['that call without a pause', 0, {}],
    ['that think between two calls', 15, {}],
    ['whose answers have two messages', 0, { onSocket: (socket: WebSocket) => answerCalls(socket, true) }]
  ] as const) {
    t.test(`${name}, 50 clients ${how} lose no call`, async t => {
      const { app, report } = await start(t, { ...setup, options: { delay } })
      const callers = await openMany(app, 50)
      const losses = callers.map(caller => callUntilClosed(caller, between20And200, think))
      await eventually(() => callers.every(({ answered }) => answered >= 2), () => callers.map(({ answered }) => answered))
      void app.shutdown.start()
      const lost = (await Promise.all(losses)).reduce((sum, count) => sum + count, 0)
      t.equal(lost, 0)
      t.ok((await Promise.all(callers.map(({ closed }) => closed))).every(({ code }) => code === 1001))
      if (how.includes('two messages')) t.ok(callers.every(({ answered, ended }) => answered === ended), 'the last message behind an answer arrives')
      t.match(await report, { outcome: 'clean', webSockets: { closed: 50, terminated: 0 } })
    })
  }
}

t.test('several calls in flight on one WebSocket all get their answers', async t => {
  const { app, report } = await start(t)
  const callers = await openMany(app, 50)
  const calls = callers.flatMap(({ call }) => Array.from({ length: 6 }, () => call(between20And200())))
  await pause(50)
  void app.close()
  t.same((await Promise.all(calls)).filter(answered => answered !== true), [])
  t.match(await report, { outcome: 'clean', webSockets: { closed: 50, terminated: 0 } })
})

t.test('a message with several answers gets all of them', async t => {
  const { app, report } = await start(t, {
    onSocket (socket) {
      socket.on('message', data => {
        const { calls } = JSON.parse(String(data)) as { calls: number[] }
        for (const id of calls) setTimeout(() => socket.send(JSON.stringify({ end: id })), id * 50)
      })
    }
  })
  const callers = await openMany(app, 10)
  for (const { socket } of callers) socket.send(JSON.stringify({ calls: [1, 2, 3, 4, 5, 6] }))
  await pause(15)
  void app.close()
  await Promise.all(callers.map(({ closed }) => closed))
  t.same(callers.map(({ ended }) => ended), callers.map(() => 6))
  t.match(await report, { outcome: 'clean', webSockets: { closed: 10, terminated: 0 } })
})

t.test('with compression, a call gets its answer and the message after it', async t => {
  const { app, report } = await start(t, { deflate: true, onSocket: socket => answerCalls(socket, true) })
  const callers = await openMany(app, 20)
  const calls = callers.map(({ call }) => call(100))
  await pause(50)
  void app.close()
  t.same((await Promise.all(calls)).filter(answered => answered !== true), [])
  await Promise.all(callers.map(({ closed }) => closed))
  t.same(callers.map(({ ended }) => ended), callers.map(() => 1))
  t.match(await report, { outcome: 'clean', webSockets: { closed: 20, terminated: 0 } })
})

t.test('a call gets its answer, although the server also sends messages that answer nothing', async t => {
  const timers = new Set<NodeJS.Timeout>()
  t.teardown(() => timers.forEach(clearInterval))
  const { app, report } = await start(t, {
    onSocket (socket) {
      answerCalls(socket)
      timers.add(setInterval(() => socket.send('{}'), 30))
    }
  })
  const callers = await openMany(app, 10)
  await pause(100)
  const calls = callers.map(({ call }) => call(400))
  await pause(50)
  void app.close()
  t.same((await Promise.all(calls)).filter(answered => answered !== true), [])
  t.match(await report, { outcome: 'clean', webSockets: { closed: 10, terminated: 0 } })
})

t.test('a call whose answer does not come delays the close frame by two seconds at most', async t => {
  const { app, report } = await start(t)
  const [silent, quiet] = await openMany(app, 2)
  silent!.socket.send('{"id":1,"ms":-1}')
  await pause(50)
  void app.shutdown.start()
  const began = performance.now()
  const [late, early] = await Promise.all([silent!.closed, quiet!.closed])
  t.same([late.code, early.code], [1001, 1001])
  t.ok(early.at - began < 1_000, `${early.at - began} ms`)
  t.ok(late.at - began > 1_500 && late.at - began < 2_700, `${late.at - began} ms`)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 2, terminated: 0 } })
})

t.test('a short timeouts.streams shortens that time, so that there is time for the answer to the close frame', async t => {
  const { app, report } = await start(t, { options: { timeouts: { streams: 300 } } })
  const caller = await open(app)
  caller.socket.send('{"id":1,"ms":-1}')
  await pause(50)
  void app.shutdown.start()
  t.equal((await caller.closed).code, 1001)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
})

t.test('the same rules apply to another implementation than ws, by its bytes', async t => {
  // The same ws, but its symbol cannot be found.
  const { app, report } = await serve(t, {
    options: { delay: 600 },
    routes (app) {
      const server = new WebSocketServer({ noServer: true })
      app.server.on('upgrade', (req, socket, head) => {
        server.handleUpgrade(req, socket, head, webSocket => {
          for (const symbol of Object.getOwnPropertySymbols(socket)) {
            if (symbol.description !== 'websocket') continue
            Object.defineProperty(socket, Symbol('hidden'), { value: Reflect.get(socket, symbol) })
          }
          answerCalls(webSocket)
        })
      })
    }
  })
  const callers = await openMany(app, 20)
  const losses = callers.slice(10).map(caller => callUntilClosed(caller, between20And200))
  await eventually(() => callers.slice(10).every(({ answered }) => answered >= 2), () => '')
  void app.shutdown.start()
  const quiet = Promise.all(callers.slice(0, 10).map(({ closed }) => closed))
  const draining = entered(app, 'draining')
  t.ok(await Promise.race([quiet.then(() => true), draining.then(() => false)]), 'quiet ones close in lame-duck')
  t.equal((await Promise.all(losses)).reduce((sum, count) => sum + count, 0), 0)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 20, terminated: 0 } })
})

t.test('createCalls', async t => {
  await t.test('a message awaits its answer for two seconds, and is answered by the next message of the server', async t => {
    const time = virtualTime(t)
    const calls = createCalls()
    t.equal(calls.silence(), Infinity)
    for (let count = 0; count < 2; count++) {
      calls.receive()
      calls.send()
    }
    await time.pass(5_000)
    calls.receive()
    await time.pass(1_999)
    t.ok(calls.awaitsAnswer())
    t.notOk(calls.isQuiet(500))
    await time.pass(1)
    t.notOk(calls.awaitsAnswer())
    t.ok(calls.isQuiet(500))
    t.equal(calls.silence(), 2_000)
    calls.receive()
    calls.send()
    t.notOk(calls.awaitsAnswer(), 'the old message counts no longer')
    t.ok(calls.mayCall())
    await time.pass(100)
    t.notOk(calls.mayCall())
  })

  await t.test('it is not assumed that the first message has one answer', async t => {
    const time = virtualTime(t)
    const calls = createCalls()
    calls.receive()
    calls.send()
    await time.pass(299)
    t.ok(calls.awaitsAnswer())
    await time.pass(1)
    t.notOk(calls.awaitsAnswer())
  })

  await t.test('a message of the server that answers nothing makes the count inexact for two seconds', async t => {
    const time = virtualTime(t)
    const calls = createCalls()
    const call = (): void => {
      calls.receive()
      calls.send()
    }
    call()
    call()
    await time.pass(10)
    calls.send()
    t.notOk(calls.awaitsAnswer(), 'it may be a part of the same answer')
    await time.pass(50)
    calls.send()
    call()
    t.ok(calls.awaitsAnswer())
    await time.pass(2_000)
    call()
    t.notOk(calls.awaitsAnswer())
  })

  await t.test('a subscription, which gets no answer, is quiet after twice the quiet time', async t => {
    const time = virtualTime(t)
    const calls = createCalls()
    calls.receive()
    await time.pass(999)
    t.notOk(calls.isQuiet(500))
    await time.pass(1)
    t.ok(calls.isQuiet(500))
  })
})
