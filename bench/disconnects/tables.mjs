/** The results of the soak as tables. */

/** Routes that the output names. */
const mostRoutes = 20

export function printResults (bare, ours, kept) {
  print(traffic(ours))
  print(comparison(bare, ours))
  print(servers(ours))
  printLeft(ours)
  print([['promise', 'limit', 'measured', ''], ...kept.map(({ what, limit, value, holds }) => [what, limit, value, holds ? 'holds' : 'BROKEN'])])
}

function traffic ({ waves }) {
  const total = counts => waves.reduce((sums, wave) => {
    for (const [key, count] of Object.entries(wave[counts])) sums[key] = (sums[key] ?? 0) + count
    return sums
  }, {})
  const list = counts => Object.entries(total(counts)).sort(([, a], [, b]) => b - a).map(([key, count]) => `${key} ${n(count)}`).join(', ')
  return [
    ['traffic', 'requests'],
    ['by connection', list('shapes')],
    ['by moment', list('moments')],
    ['by way', list('ways')]
  ]
}

function comparison (bare, ours) {
  const row = (name, of) => [name, of(bare), of(ours)]
  return [
    ['', 'bare Fastify', 'fastify-shutdown'],
    row('requests that the clients sent', ({ waves }) => n(waves.reduce((sum, { requests }) => sum + requests, 0))),
    row('requests that Node parsed', ({ counts }) => n(counts.servers.reduce((sum, { received }) => sum + received, 0))),
    row('visits of clients', ({ waves }) => n(waves.reduce((sum, { visits }) => sum + visits, 0))),
    row('seconds of traffic', ({ waves }) => waves.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1)),
    ...bare.waves.map(({ name }, i) => row(`CPU time of the server, ${name}, s`, ({ waves }) => (waves[i].cpuMs / 1_000).toFixed(1))),
    ...bare.waves.map(({ name }, i) => row(`longest stall, ${name}, ms`, ({ waves }) => waves[i].stallMs.toFixed(0))),
    row('HTTP/2 sessions that Node kept open after their client had left', ({ waves }) => n(waves.reduce((sum, { severed }) => sum + severed, 0))),
    row('heap after a garbage collection, MB', ({ heap }) => (heap.heapUsed / 1e6).toFixed(1)),
    row('buffers outside of the heap, MB', ({ heap }) => (heap.external / 1e6).toFixed(1)),
    row('resident memory, MB', ({ heap }) => (heap.rss / 1e6).toFixed(0))
  ]
}

function servers ({ counts }) {
  return [
    ['server', 'received', 'completed', 'aborted', 'rejected', 'cut', 'in flight', 'WebSockets'],
    ...counts.servers.map(({ name, stats, active }) => [
      name, n(stats.received), n(stats.completed), n(stats.aborted), n(stats.rejected), n(stats.cut), n(active.requests + active.streams), n(active.webSockets)
    ])
  ]
}

/** Only where something is left: these routes show the fault. */
function printLeft ({ waves }) {
  for (const { name, leftBy } of waves) {
    const rows = Object.entries(leftBy).sort(([, a], [, b]) => b - a).map(([route, count]) => [route, n(count)])
    if (rows.length > mostRoutes) rows.splice(mostRoutes, Infinity, [`${rows.length - mostRoutes} more routes`, ''])
    if (rows.length > 0) print([[`left in flight after "${name}"`, 'requests'], ...rows])
  }
}

function print (rows) {
  const [columns, ...others] = rows
  const line = cells => `| ${cells.join(' | ')} |`
  console.log([line(columns), line(columns.map((_, i) => i === 0 ? '---' : '---:')), ...others.map(line), ''].join('\n'))
}

export function n (number) {
  return number.toLocaleString('en')
}
