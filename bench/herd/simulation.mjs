/**
 * A million clients and a hundred replicas through a whole rolling update.
 *
 * The model:
 * - Each client has one connection to one replica, and sends a request every 10 s on average (a Poisson process). At
 *   the start, the clients are distributed evenly at random.
 * - `atOnce` replicas are replaced at a time. The new replicas are ready when the old ones get the signal to stop. The
 *   next replacement starts when the old ones have exited and 5 s (minReadySeconds) are over.
 * - The load balancer notices after 2 s that a replica stops, and sends new connections to it until then. It chooses
 *   evenly at random among the replicas that it believes ready. It does not move connections.
 * - With a lame-duck, a connection closes with the client's next answer. With the spread, an idle connection closes at
 *   its turn, in steps of 50 ms and in random order; without the spread, at the end of lame-duck. Without a lame-duck,
 *   all connections close when the replica gets the signal.
 * - A lame-duck with a range lasts at least `min`, then until no request has come for `quiet`, and at most `max`. Its
 *   spread takes `min`, at least `quiet`.
 * - A client connects again as soon as its connection is closed, as eager pools, gRPC, EventSource and WebSocket
 *   clients do. A client that waits for its next request makes the wave lower. The network takes an exponentially
 *   distributed time, 50 ms on average.
 * - A client that connects to a replica in lame-duck is served once, and connects again. A client that connects to a
 *   replica that drains gets 503, and connects again after exactly Retry-After.
 * - A time step is 10 ms, and peaks are those of fixed windows of 100 ms. A replica accepts any number of connections.
 */
import { mulberry32 } from '../support/random.mjs'

const stepsPerSecond = 100
const window = stepsPerSecond / 10
const latency = 0.05
const thinking = 10
const notice = 2
const minReady = 5
const spreadStep = 0.05

/**
 * @param {{ seed: number, clients: number, replicas: number, atOnce: number, delay: number | { min: number, max: number, quiet: number }, spread: boolean, retryAfter: [number, number] }} model times in seconds
 */
export function simulate ({ seed, clients, replicas, atOnce, delay, spread, retryAfter }) {
  const { min, max, quiet } = typeof delay === 'number' ? { min: delay, max: delay, quiet: 0 } : delay
  const spreadTime = Math.max(min, quiet)
  const random = mulberry32(seed)
  const exponential = mean => -mean * Math.log(1 - random())

  // Each new replica has a new number. `home` is the replica of a client's connection, -1 while it has none.
  const home = new Int32Array(clients)
  const load = new Map()
  /** Replica -> times of its signal, of its last request since, and of the end of its lame-duck. */
  const stopped = new Map()
  let known = Array.from({ length: replicas }, (_, n) => n)
  for (const replica of known) load.set(replica, 0)
  for (let client = 0; client < clients; client++) arrive(client, known[Math.floor(random() * replicas)])

  /** What happens in which step: connection ends (and its replica then), or a client connects. */
  const ends = new Map()
  const connects = new Map()
  const result = { seconds: 0, connects: 0, peakFleet: 0, peakReplica: 0, refused: 0, peakRetries: 0, fullest: 0 }
  const retrying = new Uint8Array(clients)
  const endsWithAnswer = new Uint8Array(clients)
  let fleet = 0
  let retries = 0
  let perReplica = new Map()

  const old = [...known]
  let next = replicas
  let batch = []
  let batchBegan = -Infinity
  let gone = -Infinity
  let lastActivity = 0

  for (let step = 0; old.length > 0 || batch.length > 0 || ends.size > 0 || connects.size > 0; step++) {
    const time = step / stepsPerSecond
    if (batch.length > 0 && time >= batchBegan + notice) known = known.filter(replica => !stopped.has(replica))
    for (const replica of batch) endLameDuck(stopped.get(replica), time)
    if (batch.length > 0 && time >= batchBegan + notice && batch.every(replica => stopped.get(replica).ended <= time)) {
      batch = []
      gone = time
    }
    if (batch.length === 0 && old.length > 0 && time >= gone + minReady) {
      batch = old.splice(0, atOnce)
      batchBegan = time
      for (let n = 0; n < batch.length; n++) {
        load.set(next, 0)
        known.push(next++)
      }
      for (const replica of batch) {
        stopped.set(replica, { began: time, lastRequest: time, ended: Infinity })
        stop(replica, step)
      }
    }
    for (const client of take(ends, step)) {
      if (home[client] < 0 || !stopped.has(home[client])) continue
      if (endsWithAnswer[client] === 1) stopped.get(home[client]).lastRequest = time
      leave(client)
      at(connects, step + 1 + Math.round(exponential(latency) * stepsPerSecond), client)
    }
    for (const client of take(connects, step)) connect(client, step, time)
    if (step % window === window - 1) {
      result.peakFleet = Math.max(result.peakFleet, fleet)
      result.peakRetries = Math.max(result.peakRetries, retries)
      for (const count of perReplica.values()) result.peakReplica = Math.max(result.peakReplica, count)
      fleet = retries = 0
      perReplica = new Map()
    }
  }
  result.seconds = lastActivity
  result.fullest = Math.max(...known.map(replica => load.get(replica))) / (clients / replicas)
  return result

  /** This replica stops. Schedules the end of each of its connections. */
  function stop (replica, step) {
    const mine = []
    for (let client = 0; client < clients; client++) if (home[client] === replica) mine.push(client)
    shuffle(mine)
    const share = Math.ceil(mine.length / Math.max(1, spreadTime / spreadStep))
    mine.forEach((client, n) => {
      const turn = spread ? (1 + Math.floor(n / share)) * spreadStep : max
      const request = exponential(thinking)
      endsWithAnswer[client] = request < turn ? 1 : 0
      at(ends, step + Math.round(Math.min(turn, request) * stepsPerSecond * (max > 0 ? 1 : 0)), client)
    })
  }

  function endLameDuck (replica, time) {
    if (replica.ended < Infinity || time < replica.began + min) return
    if (time >= replica.began + max || time >= replica.lastRequest + quiet) replica.ended = time
  }

  function connect (client, step, time) {
    const replica = known[Math.floor(random() * known.length)]
    lastActivity = time
    result.connects++
    fleet++
    if (retrying[client] === 1) {
      retries++
      retrying[client] = 0
    }
    perReplica.set(replica, (perReplica.get(replica) ?? 0) + 1)
    const since = stopped.get(replica)
    if (since === undefined) return arrive(client, replica)
    if (time < since.ended && time < since.began + max) {
      since.lastRequest = time
      at(connects, step + 1 + Math.round(exponential(latency) * stepsPerSecond), client)
      return
    }
    result.refused++
    retrying[client] = 1
    const [shortest, longest] = retryAfter
    at(connects, step + (shortest + Math.floor(random() * (longest - shortest + 1))) * stepsPerSecond, client)
  }

  function arrive (client, replica) {
    home[client] = replica
    load.set(replica, load.get(replica) + 1)
  }

  function leave (client) {
    load.set(home[client], load.get(home[client]) - 1)
    home[client] = -1
  }

  function shuffle (list) {
    for (let n = list.length - 1; n > 0; n--) {
      const other = Math.floor(random() * (n + 1));
      [list[n], list[other]] = [list[other], list[n]]
    }
  }
}

function at (queue, step, client) {
  const list = queue.get(step)
  if (list === undefined) queue.set(step, [client])
  else list.push(client)
}

function take (queue, step) {
  const list = queue.get(step)
  if (list === undefined) return []
  queue.delete(step)
  return list
}
