/** (c) The time from the last byte of the last answer to the end of the shutdown. */
import { connect } from 'node:net'
import { start, terminate } from './support/child.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { interleave, median, summary } from './support/statistics.mjs'
import { verdict } from './support/verdict.mjs'

export const title = 'After the last byte'

/** Above the 10 s timeout of some peers, in milliseconds. A process that has not ended by then is killed. */
const longest = 12_000

export async function measure ({ quick, rounds = quick ? 2 : 6, only, log }) {
  const names = await whoTakesPart('tail', only)
  const cap = quick ? 3_000 : longest
  const rows = []
  for (const [client, connection] of [['keep-alive', 'keep-alive'], ['Connection: close', 'close']]) {
    log(`${client}: which contenders hang`)
    // A contender that waits for a timeout uses no CPU meanwhile, so these run once and in parallel.
    const first = new Map(await Promise.all(names.map(async name => [name, await once(name, connection, cap)])))
    const prompt = names.filter(name => !first.get(name).hung && first.get(name).exitMs < 2_000)
    const samples = await interleave(prompt, rounds, name => once(name, connection, cap), log)
    const limit = median(samples.get('limit').map(sample => sample.tailMs))
    const closedOf = all => all.every(sample => sample.closedMs !== null) ? median(all.map(sample => sample.closedMs)) : Infinity
    const bare = prompt.includes('bare') ? closedOf(samples.get('bare')) : null
    for (const name of names) {
      const all = samples.get(name) ?? [first.get(name)]
      const tails = all.map(sample => sample.tailMs)
      // A contender that crashes on the signal is the first to exit.
      const clean = all.every(sample => sample.code === 0 && sample.answer.startsWith('200'))
      rows.push({
        name,
        client,
        label: await labelOf(name),
        hung: samples.has(name) ? null : verdict(first.get(name), cap),
        exit: samples.has(name) ? summary(tails.map(tail => tail / limit)) : null,
        closed: samples.has(name) && all.every(sample => sample.closedMs !== null) ? summary(all.map(sample => sample.closedMs / limit)) : null,
        clean,
        beyondBareMs: bare === null || !clean ? null : closedOf(all) - bare,
        codes: [...new Set(all.map(sample => sample.code ?? 'killed'))].join(', '),
        answers: [...new Set(all.map(sample => sample.answer))].join(', ')
      })
    }
  }
  const ours = client => rows.find(row => row.name === 'shutdown-count' && row.client === client && row.clean)
  return {
    rounds,
    rows,
    tables: ['keep-alive', 'Connection: close'].map(client => ({
      title: `Client: ${client}`,
      columns: ['contender', 'last byte to exit handler, reference = 1', 'last byte to close() resolved, reference = 1', 'exit code', 'answer'],
      rows: rows.filter(row => row.client === client).map(row => [row.label, row.hung ?? row.exit, row.hung === null ? row.closed ?? 'close() is not called, or not resolved' : '-', row.codes, row.answers])
    })),
    charts: [{
      file: 'tail',
      title: 'Last byte to exit handler, keep-alive client, reference = 1',
      log: true,
      bars: rows.filter(row => row.client === 'keep-alive').map(({ label, exit, hung }) => exit === null ? { label, text: hung } : { label, value: exit.median, low: exit.low, high: exit.high })
    }],
    targets: [
      { what: 'milliseconds from the last byte to close() resolved beyond those of bare Fastify, client with Connection: close (bare Fastify hangs on a keep-alive one)', limit: 5, value: ours('Connection: close')?.beyondBareMs ?? NaN }
    ],
    notes: [
      `One request is in flight at SIGTERM. It ends 100 to 350 ms later, at a random time, so that contenders that poll have no advantage. "Last byte" is Node's 'finish' event of that answer. A process that does not end within ${cap / 1_000} s is killed.`,
      'The reference closes the raw server and exits after the last answer, without any onClose hook. Bare Fastify does not exit: its process ends when the event loop is empty.',
      'The promises are about close(). A contender has no reading if its answer is not 200 or its exit code is not 0.'
    ]
  }
}

async function once (name, connection, cap) {
  const server = start('server', { name })
  const { port } = await server.line()
  const ms = 100 + Math.floor(Math.random() * 250)
  const answered = slowRequest(port, ms, connection)
  await new Promise(resolve => setTimeout(resolve, 40))
  const ended = await terminate(server, cap)
  const answer = await answered
  const at = ended.answeredAt ?? null
  return {
    hung: ended.hung,
    code: ended.code,
    exitMs: ended.exitMs ?? ended.goneMs,
    tailMs: at === null ? Infinity : ended.exitAt - at,
    closedMs: at === null || ended.closedAt === null ? null : ended.closedAt - at,
    answer
  }
}

/** @returns the status and the `Connection` header of the answer */
function slowRequest (port, ms, connection) {
  return new Promise(resolve => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(`GET /slow/${ms} HTTP/1.1\r\nHost: bench\r\nConnection: ${connection}\r\n\r\n`))
    socket.on('data', chunk => { text += chunk })
    socket.on('error', error => { text ||= error.code })
    socket.on('close', () => resolve(text === '' ? 'none' : `${text.split(' ', 2)[1] ?? text} ${/^connection: (.*)$/im.exec(text)?.[1] ?? ''}`.trim()))
  })
}
