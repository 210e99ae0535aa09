/**
 * Lame-duck under load: the server still serves while it asks its clients to leave. A second replica runs beside it,
 * and a balancer that reads readiness directs new connections to one of the two.
 */
import http from 'node:http'
import net from 'node:net'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { Pool } from 'undici'
import { connect, eventually, get, portOf, type Client } from '../helpers/client'
import { entered, serve } from '../helpers/serve'

const crowd = 100

/**
 * Duration of the lame-duck phase, in milliseconds. A busy machine can answer a hundred clients several times in it.
 */
const delay = 1_500

interface Seen {
  readonly status: number
  /** Whether the response carries `Connection: close`. */
  readonly close: boolean
  readonly replica: string
  /**
   * The readiness when the head of the response was written. `null` if Fastify or the plugin responded instead of the
   * route.
   */
  readonly ready: boolean | null
}

/** A keep-alive client that opens new connections to the port that the balancer chooses. */
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
  t.test(`${name}: ${crowd} keep-alive connections move to the replica before any request is rejected`, async t => {
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
    t.same(answers.filter(({ status }) => status !== 200), [], 'every status is 200')
    t.equal(readyAtTurn, false, 'readiness turns false first')
    t.notOk(answers.slice(0, answersAtTurn).some(({ close }) => close), 'no response closes its connection before lame-duck')
    const fromOld = answers.filter(({ replica }) => replica === 'old')
    const lame = fromOld.filter(({ ready }) => ready === false)
    t.ok(calm > 0 && lame.length >= crowd, `${lame.length} responses in lame-duck`)
    t.same(lame.filter(({ close }) => !close), [], 'every response in lame-duck carries Connection: close')
    t.same(fromOld.filter(({ ready, close }) => ready === true && close), [], 'no response carries it while readiness is true')
    t.same(atDraining, { left: 0, balanced: true, rejected: 0 }, 'all connections have moved away when draining begins')
    t.ok(answers.slice(-crowd).every(({ replica }) => replica === 'young'), 'the last responses come from the replica')
    t.match(report, { outcome: 'clean', requests: { rejected: 0, aborted: 0, cut: [] }, sockets: { destroyed: 0 } })
  })
}

t.test('idle connections are ended evenly over the delay, while busy connections are served', async t => {
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
        // On a busy machine lame-duck can be over before the test sees the end of the last idle connection.
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
  t.same(await Promise.all(busy), busy.map(() => 0), 'the busy connections are served')
  t.ok(times.every(({ how, phase }) => how === 'end' && phase === 'lame-duck'), 'all connections end in order, before draining begins')
  const quarters = [0, 0, 0, 0]
  for (const { at } of times) quarters[Math.min(3, Math.floor(at / delay * 4))]!++
  // On a busy machine a late timer moves one wave into the next quarter, not more.
  t.ok(quarters.every(quarter => quarter >= crowd / 10 && quarter <= crowd / 2), `connections ended per quarter of the delay: ${quarters.join(', ')}`)
  const { sockets } = await done
  t.equal(sockets.idle, crowd)
})

t.test('an old connection with few requests is ended before a new connection with many', async t => {
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
  // The age of a connection is the thing under test: `old` is ten times as old as `new` when the drain rates them.
  await new Promise(resolve => { setTimeout(resolve, 500) })
  await ask('new', 2)
  void app.shutdown.start()
  await eventually(() => ended.length === 2, () => ended)
  t.strictSame(ended, ['old', 'new'])
})

t.test('a connection in use is left open until its next answer, or until draining begins', async t => {
  const { app } = await serve(t, { options: { delay: 400 }, routes: app => { app.get('/', async () => 'hello') } })
  const ask = async (client: Client): Promise<string | undefined> => {
    client.send(get('/'))
    return (await client.answer()).headers['connection'] as string | undefined
  }
  const [idle, used, sending] = await Promise.all([connect(app), connect(app), connect(app)])
  for (const client of [idle, used, sending]) t.teardown(() => client.socket.destroy())
  await ask(idle)
  // The history of the connections is the thing under test: a use of 5.2 s, with pauses of 100 ms.
  for (const began = performance.now(); performance.now() - began < 5_200;) {
    await Promise.all([ask(used), ask(sending)])
    await new Promise(resolve => { setTimeout(resolve, 100) })
  }
  const ends: string[] = []
  for (const [name, client] of Object.entries({ idle, used, sending })) {
    void client.over.then(how => ends.push(`${name}: ${how} in ${app.shutdownState.phase}`))
  }
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  t.equal(await ask(sending), 'close')
  await done
  t.strictSame(ends.sort(), ['idle: end in lame-duck', 'sending: end in lame-duck', 'used: end in draining'])
})

t.test('connections that are opened during lame-duck are served, each once', async t => {
  const { app } = await replica(t, 'old')
  const port = portOf(app)
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  let served = 0
  const others: unknown[] = []
  // Stops at 90 % of the delay. A connection at the very end of it is tested in new-connections.test.ts.
  for (const began = performance.now(); performance.now() - began < delay * 0.9; served++) {
    const client = await connect(port)
    client.send(get('/'))
    const { status, headers: { connection } } = await client.answer()
    const how = await client.over
    if (status !== 200 || connection !== 'close' || how !== 'end') others.push({ status, connection, how })
  }
  const { outcome, requests } = await done
  t.ok(served > 20, `${served} connections were served`)
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
        // The latest possible moment: the head of the response is written right after it.
        onSend: async () => JSON.stringify({ replica: name, ready: app.shutdownState.ready })
      }, async () => {
        await new Promise(resolve => { setImmediate(resolve) })
        return 'ok'
      })
    }
  })
  return { app }
}

/** Counts the open connections among those accepted until `stop()`. */
function follow ({ app }: Replica): { readonly open: number, stop(): void } {
  const sockets = new Set<net.Socket>()
  const add = (socket: net.Socket): void => { sockets.add(socket) }
  app.server.on('connection', add)
  return {
    get open () { return [...sockets].filter(socket => !socket.destroyed).length },
    stop: () => { app.server.removeListener('connection', add) }
  }
}

/** Directs new connections to `old` until its readiness is false. Polls readiness every 20 ms, as a balancer does. */
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
