/**
 * (e) Failures that clients without a proxy see in a restart: a server stops and starts again on one port while
 * keep-alive clients send requests.
 * `npm run prove:rolling` measures restarts behind nginx, HAProxy, PM2 and node:cluster.
 */
import { readFileSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { start, terminate } from './support/child.mjs'
import { labelOf, load as loadContender, whoTakesPart } from './support/contenders.mjs'
import { interleave, summary } from './support/statistics.mjs'

export const title = 'Failures per restart, without a proxy'

const clients = 8

export async function measure ({ quick, rounds = quick ? 1 : 4, only, log }) {
  const contenders = {}
  for (const name of await whoTakesPart('restarts', only)) {
    if (name === 'bare') continue // It would not end before its clients.
    const { delays } = await loadContender(name)
    contenders[name] = { name, delay: 0, label: await labelOf(name) }
    if (delays) contenders[`${name} delayed`] = { name, delay: 300, label: `${await labelOf(name)}, delay 300 ms` }
  }
  const keys = Object.keys(contenders)
  const samples = await interleave(keys, rounds, key => restart(contenders[key]), log)
  const rows = keys.map(key => {
    const of = what => summary(samples.get(key).map(sample => sample[what]))
    const total = what => samples.get(key).reduce((sum, sample) => sum + sample[what], 0)
    return { key, label: contenders[key].label, lost: total('broken') / rounds, refusedAnswers: total('unavailable') / rounds, refused: total('refused') / rounds, requests: total('requests'), exit: of('exitMs'), hung: total('hung') }
  })
  const delayed = rows.find(({ key }) => key === 'shutdown-count delayed')
  return {
    rounds,
    rows,
    tables: [{
      columns: ['contender', 'broken per restart', '503 per restart', 'refused connections per restart', 'servers that were killed'],
      rows: rows.map(row => [row.label, row.lost.toFixed(2), row.refusedAnswers.toFixed(2), row.refused.toFixed(0), `${row.hung} of ${rounds}`])
    }, rolling()],
    charts: [{ file: 'restarts', title: 'Broken requests and 503s per restart', unit: '', bars: rows.map(({ label, lost, refusedAnswers }) => ({ label, value: lost + refusedAnswers })) }],
    targets: [{ what: `broken requests and 503s per restart with a lame-duck of 300 ms, ${rounds} restarts`, limit: 0.5, value: delayed === undefined ? NaN : delayed.lost + delayed.refusedAnswers }],
    notes: [
      `${clients} keep-alive clients without a proxy, ${rounds} restarts each. A broken request got no answer, a truncated one, or a status other than 200 and 503. After a 503 or a refused connection, the client can safely retry. With fewer than 100 restarts, a difference below a factor of two has no meaning: \`npm run bench -- restarts --rounds 100\`.`,
      'The second table comes from another command, `npm run prove:rolling`. It has other requests, and counts 503s as failures: see [rolling restarts](rolling-restarts.md).'
    ]
  }
}

/** One server from start to end under load, then a second one on the same port, so that clients can connect again. */
async function restart ({ name, delay }) {
  const first = start('server', { name, delay })
  const { port } = await first.line()
  const count = { requests: 0, broken: 0, unavailable: 0, refused: 0 }
  const agent = new Agent({ keepAlive: true, maxSockets: clients })
  const load = { over: false }
  const running = Array.from({ length: clients }, async () => { while (!load.over) await request(port, agent, count) })
  await sleep(200)
  const { hung, exitMs, goneMs } = await terminate(first, delay + 4_000)
  // Requests that break from here on meet the start of the second server. It is killed after the last request.
  const second = start('server', { name: 'bare', port })
  await second.line()
  await sleep(50)
  load.over = true
  await Promise.all(running)
  agent.destroy()
  second.kill('SIGKILL')
  await second.exited
  return { ...count, hung: Number(hung), exitMs: exitMs ?? goneMs }
}

async function request (port, agent, count) {
  count.requests++
  try {
    const status = await new Promise((resolve, reject) => {
      get({ port, host: '127.0.0.1', agent }, response => {
        response.on('error', reject).on('end', () => resolve(response.statusCode)).resume()
      }).on('error', reject)
    })
    if (status === 503) count.unavailable++
    else if (status !== 200) count.broken++
    // A random wait. With a fixed one, all clients would send at the same time, and SIGTERM would meet all requests or
    // none.
    await sleep(status === 503 ? 20 : 1 + Math.random() * 4)
  } catch (error) {
    if (error.code === 'ECONNREFUSED') count.refused++
    else count.broken++
    await sleep(5)
  }
}

/** The failures behind proxies and process managers, from the results of `npm run prove:rolling`. */
function rolling () {
  const results = Object.values(JSON.parse(readFileSync(new URL('rolling/results.json', import.meta.url), 'utf8')))
  const places = [...new Set(results.map(({ topology }) => topology))]
  const contenders = [...new Set(results.map(({ contender }) => contender))]
  const cell = (contender, place) => {
    const result = results.find(result => result.contender === contender && result.topology === place)
    return result === undefined ? '-' : (result.failed / result.restarts).toFixed(2)
  }
  return {
    title: `Behind a proxy or a process manager: failures per restart (${[...new Set(results.map(({ measured }) => measured))].sort().join(', ')})`,
    columns: ['contender', ...places],
    rows: contenders.map(contender => [contender, ...places.map(place => cell(contender, place))])
  }
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
