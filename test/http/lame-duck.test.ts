/**
 * Lame-duck under load: a server that still serves while it asks to be left alone. Beside it stands a replica, and between
 * them a balancer that asks for readiness, since without somewhere to go there is no moving away.
 */
import http from 'node:http'
import net from 'node:net'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { Pool } from 'undici'
import { connect, eventually, get, portOf } from '../helpers/client'
import { entered, serve } from '../helpers/serve'

const crowd = 100

/** How long the server is a lame duck, in milliseconds: long enough for a busy machine to answer a hundred clients several times. */
const delay = 1_500

interface Seen {
  readonly status: number
  /** Whether the answer asks to be left alone. */
  readonly close: boolean
  readonly replica: string
  /** The readiness flag when the answer's head was written; `null` where Fastify or the plugin answered in the route's place. */
  readonly ready: boolean | null
}

/** A keep-alive client that opens its new connections where the balancer says. */
interface KeepAliveClient {
  ask(): Promise<Seen>
  close(): unknown
}

const clients: Record<string, (target: () => number) => KeepAliveClient> = {
  'node:http with an agent' (target) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: crowd, maxFreeSockets: crowd })
    agent.createConnection = () => net.connect({ port: target(), host: '127.0.0.1', noDelay: true })
    return {
      ask: () => new Promise((resolve, reject) => {
        http.get({ agent, host: 'crowd', path: '/' }, response => {
          let body = ''
          response.setEncoding('utf8').on('data', chunk => { body += chunk }).once('error', reject)
          response.once('end', () => { resolve(seen(response.statusCode!, response.headers.connection, body)) })
        }).once('error', reject)
      }),
      close: () => agent.destroy()
    }
  },
  'a Pool of undici' (target) {
    const pool = new Pool('http://crowd', {
      connections: crowd,
      pipelining: 1,
      connect (_options, callback) {
        const socket = net.connect({ port: target(), host: '127.0.0.1', noDelay: true })
        socket.once('connect', () => callback(null, socket)).once('error', error => callback(error, null))
      }
    })
    return {
      async ask () {
        const { statusCode, headers, body } = await pool.request({ path: '/', method: 'GET' })
        return seen(statusCode, headers.connection, await body.text())
      },
      close: () => pool.destroy()
    }
  }
}

for (const [name, create] of Object.entries(clients)) {
  t.test(`${name}: ${crowd} keep-alive connections have moved away before anything is refused`, async t => {
    const [old, young] = [await replica(t, 'old'), await replica(t, 'young')]
    const balancer = balance(t, old, young)
    const client = create(balancer.target)
    t.teardown(() => client.close())
    const before = follow(old)

    const answers: Seen[] = []
    const errors: unknown[] = []
    const rounds = Array.from({ length: crowd }, () => 0)
    const over = new AbortController()
    const loops = rounds.map(async (_, index) => {
      while (!over.signal.aborted) {
        await client.ask().then(answer => { answers.push(answer) }, (error: unknown) => { errors.push(error) })
        rounds[index]!++
      }
    })
    await eventually(() => Math.min(...rounds) >= 2, () => rounds)
    t.ok(before.open >= crowd, `${before.open} connections are open`)

    const calm = answers.length
    let readyAtTurn: boolean | null = null
    let answersAtTurn = 0
    old.app.shutdown.on('lame-duck', () => {
      readyAtTurn = old.app.shutdownState.ready
      answersAtTurn = answers.length
      before.stop()
    })
    const drained = entered(old.app, 'draining').then(() => ({ left: before.open, balanced: balancer.target() === portOf(young.app), rejected: old.app.shutdownState.stats.rejected }))
    const report = await old.app.shutdown.start()
    const atDraining = await drained
    const moved = rounds.map(round => round + 2)
    await eventually(() => rounds.every((round, index) => round >= moved[index]!), () => rounds)
    over.abort()
    await Promise.all(loops)

    t.same(errors, [], 'no error')
    t.same(answers.filter(({ status }) => status !== 200), [], 'no 503, nor anything else')
    t.equal(readyAtTurn, false, 'the readiness flag is the first to turn')
    t.notOk(answers.slice(0, answersAtTurn).some(({ close }) => close), 'nobody is asked to leave before')
    const fromOld = answers.filter(({ replica }) => replica === 'old')
    const lame = fromOld.filter(({ ready }) => ready === false)
    t.ok(calm > 0 && lame.length >= crowd, `${lame.length} answers in lame-duck`)
    t.same(lame.filter(({ close }) => !close), [], 'every answer in lame-duck says close')
    t.same(fromOld.filter(({ ready, close }) => ready === true && close), [], 'no answer says it while readiness says yes')
    t.same(atDraining, { left: 0, balanced: true, rejected: 0 }, 'all have moved away when draining begins')
    t.ok(answers.slice(-crowd).every(({ replica }) => replica === 'young'), 'to the replica')
    t.match(report, { outcome: 'clean', requests: { rejected: 0, aborted: 0, cut: [] }, sockets: { destroyed: 0 } })
  })
}

t.test('idle connections are ended spread over the delay, while others are busy', async t => {
  const { app } = await replica(t, 'old')
  const idle = await Promise.all(Array.from({ length: crowd }, async () => {
    const client = await connect(app)
    client.send(get('/'))
    await client.answer()
    return client
  }))
  const over = new AbortController()
  const busy = Array.from({ length: 10 }, async () => {
    let others = 0
    while (!over.signal.aborted && app.server.listening) {
      try {
        const client = await connect(app)
        client.send(get('/'))
        if ((await client.answer()).status !== 200) others++
        client.socket.destroy()
      } catch (error) {
        // On a busy machine lame-duck may be over before the last of the idle ones is seen to end.
        if (app.server.listening) throw error
      }
    }
    return others
  })
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  const began = performance.now()
  const times = await Promise.all(idle.map(async ({ over }) => {
    const how = await over
    return { how, at: performance.now() - began, phase: app.shutdownState.phase }
  }))
  over.abort()
  t.same(await Promise.all(busy), busy.map(() => 0), 'the busy ones are served')
  t.ok(times.every(({ how, phase }) => how === 'end' && phase === 'lame-duck'), 'all in order, and before draining begins')
  const quarters = [0, 0, 0, 0]
  for (const { at } of times) quarters[Math.min(3, Math.floor(at / delay * 4))]!++
  // A timer that comes late on a busy machine moves a wave into the next quarter, not more.
  t.ok(quarters.every(quarter => quarter >= crowd / 10 && quarter <= crowd / 2), `by quarters of the delay: ${quarters.join(', ')}`)
  const { sockets } = await done
  t.equal(sockets.idle, crowd)
})

t.test('whoever sends little for its age is ended before one that has just come and sends much', async t => {
  const { app } = await serve(t, { options: { delay: 400 }, routes: app => { app.get('/', async () => 'hello') } })
  const ask = async (name: string, times: number): Promise<void> => {
    const client = await connect(app)
    t.teardown(() => client.socket.destroy())
    for (let count = 0; count < times; count++) {
      client.send(get('/'))
      await client.answer()
    }
    void client.over.then(() => ended.push(name))
  }
  const ended: string[] = []
  await ask('old', 3)
  // It has to grow old: ten times the age at which the other one is looked at.
  await new Promise(resolve => { setTimeout(resolve, 500) })
  await ask('new', 2)
  void app.shutdown.start()
  await eventually(() => ended.length === 2, () => ended)
  t.strictSame(ended, ['old', 'new'])
})

t.test('connections that come all through lame-duck are served, each once', async t => {
  const { app } = await replica(t, 'old')
  const port = portOf(app)
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  let served = 0
  const others: unknown[] = []
  // Up to a tenth before its end: who connects in the very moment in which it ends is the story of `refuse`.
  for (const began = performance.now(); performance.now() - began < delay * 0.9; served++) {
    const client = await connect(port)
    client.send(get('/'))
    const { status, headers: { connection } } = await client.answer()
    const how = await client.over
    if (status !== 200 || connection !== 'close' || how !== 'end') others.push({ status, connection, how })
  }
  const { outcome, requests } = await done
  t.ok(served > 20, `${served} served`)
  t.same(others, [])
  t.match({ outcome, requests }, { outcome: 'clean', requests: { completed: served, rejected: 0, aborted: 0 } })
})

interface Replica {
  readonly app: FastifyInstance
}

async function replica (t: Test, name: string): Promise<Replica> {
  const { app } = await serve(t, {
    options: { delay, probes: true },
    routes: app => {
      app.get('/', {
        // As late as can be: the answer's head is written right after it.
        onSend: async () => JSON.stringify({ replica: name, ready: app.shutdownState.ready })
      }, async () => {
        await new Promise(resolve => { setImmediate(resolve) })
        return 'ok'
      })
    }
  })
  return { app }
}

/** How many of the connections that were accepted until `stop()` are open. */
function follow ({ app }: Replica): { readonly open: number, stop(): void } {
  const sockets = new Set<net.Socket>()
  const add = (socket: net.Socket): void => { sockets.add(socket) }
  app.server.on('connection', add)
  return {
    get open () { return [...sockets].filter(socket => !socket.destroyed).length },
    stop: () => { app.server.removeListener('connection', add) }
  }
}

/** New connections go to the first of the two until it says that it is not ready; asked every 20 ms, as a balancer would. */
function balance (t: Test, old: Replica, young: Replica): { target(): number } {
  const [from, to] = [portOf(old.app), portOf(young.app)]
  let port = from
  const timer = setInterval(() => {
    http.get({ port: from, host: '127.0.0.1', path: '/health/ready', agent: false }, response => {
      if (response.statusCode !== 200) leave()
      response.resume()
    }).once('error', leave)
  }, 20)
  t.teardown(leave)
  return { target: () => port }

  function leave (): void {
    port = to
    clearInterval(timer)
  }
}

function seen (status: number, connection: unknown, body: string): Seen {
  const { replica = '', ready = null } = JSON.parse(body) as Partial<Seen>
  return { status, close: connection === 'close', replica, ready }
}
