/** The layout of a report: the order, the times and the connections of its bars. */
import t from 'tap'
import { layOut, ticksOf, type Layout } from '../../lib/timeline/layout'
import { empty, resource, sample } from '../helpers/reports'

const names = ({ groups }: Layout, title: string): string[] => groups.find(group => group.title === title)?.bars.map(bar => bar.name) ?? []

t.test('the picture ends with the last bar, and is never 0 ms long', async t => {
  t.equal(layOut(sample, 80).endMs, 11_460)
  t.equal(layOut({ ...sample, resources: [resource('late', 11_000, 900)] }, 80).endMs, 11_900)
  t.equal(layOut(empty, 80).endMs, 1)
})

t.test('bars stand in the order in which they began, and hooks stand among the resources', async t => {
  t.strictSame(names(layOut(sample, 80), 'Resources and hooks'), [
    'preClose hook of @fastify/websocket', 'search', 'worker', 'onClose hook of @fastify/under-pressure', 'queue',
    'onClose hook of @fastify/mysql', 'redis', 'postgres', 'telemetry'
  ])
})

t.test('a task that began before the shutdown begins at its left end', async t => {
  const [bar] = layOut(sample, 80).groups[0]!.bars
  t.match(bar, { name: 'audit log of order 4711', drawn: { fromMs: 0, toMs: 1_290 }, isEarlier: true, durationMs: 2_610 })
})

t.test('a task without a start has no bar and comes last', async t => {
  const tasks = [null, 5].map(startedMs => ({ name: String(startedMs), outcome: 'completed' as const, startedMs, durationMs: 10 }))
  t.match(layOut({ ...empty, tasks }, 80).groups[0]!.bars, [{ name: '5', drawn: { fromMs: 5, toMs: 15 } }, { name: 'null', drawn: null }])
})

t.test('the critical path is marked by name, and its bars are connected in their order', async t => {
  const { groups, dependencies } = layOut(sample, 80)
  t.strictSame(groups.flatMap(group => group.bars).filter(bar => bar.isCritical).map(bar => bar.name), sample.criticalPath)
  t.strictSame(
    dependencies.filter(({ isCritical }) => isCritical).map(({ from, to }) => [from.name, to.name]),
    [['worker', 'queue'], ['queue', 'redis'], ['redis', 'postgres'], ['postgres', 'telemetry']]
  )
})

t.test('of two hooks with one name, the one that ended before the next step is on the critical path', async t => {
  const hook = (startedMs: number): object => ({ hook: 'onClose', name: 'app', outcome: 'closed', startedMs, durationMs: 5, error: null })
  const report = {
    ...empty,
    resources: [resource('pool', 10, 20)],
    hooks: [hook(1), hook(40)] as unknown as typeof empty.hooks,
    criticalPath: ['onClose hook of app', 'pool']
  }
  const critical = layOut(report, 80).groups[0]!.bars.filter(bar => bar.isCritical)
  t.strictSame(critical.map(bar => bar.startedMs), [1, 10])
})

t.test('a bar outside of the critical path is connected with the dependant that ended last', async t => {
  const resources = [resource('a', 0, 5), resource('b', 0, 9), resource('c', 9, 1, ['a', 'b', 'gone']), resource('self', 0, 1, ['self'])]
  const { dependencies } = layOut({ ...empty, resources }, 80)
  t.strictSame(dependencies.map(({ from, to, isCritical }) => [from.name, to.name, isCritical]), [['b', 'c', false]])
})

t.test('if not all bars are drawn, these come first: the critical path, failures, what was forced, and long ones', async t => {
  const resources = [
    ...Array.from({ length: 1_000 }, (_, index) => resource(`r${index}`, index, 5 + index / 1_000)),
    resource('critical', 1, 1),
    { ...resource('failed', 2, 1), outcome: 'failed' as const },
    { ...resource('forced', 3, 1), outcome: 'forced' as const }
  ]
  const layout = layOut({ ...empty, resources, criticalPath: ['critical'] }, 5)
  t.strictSame(names(layout, 'Resources and hooks'), ['critical', 'failed', 'forced', 'r998', 'r999'])
  t.equal(layout.groups[0]!.omitted, 998)
})

t.test('what was cut is one mark at the end of draining', async t => {
  t.strictSame(layOut(sample, 80).cut, { atMs: 7_007, label: '2 requests cut' })
  t.equal(layOut(empty, 80).cut, null)
  const report = { ...sample, streams: { ended: 0, cut: 1 }, webSockets: { closed: 0, terminated: 3 }, http2Sessions: { closed: 0, destroyed: 1 } }
  t.equal(layOut(report, 80).cut?.label, '2 requests, 1 stream, 3 WebSockets, 1 HTTP/2 session cut')
})

t.test('samples in flight are in the order of time, and none lies outside of the picture', async t => {
  const inFlight = [30, -5, 10, 2_000].map(atMs => ({ atMs, requests: 2, streams: 1, webSockets: 1 }))
  const layout = layOut({ ...empty, durationMs: 100, inFlight }, 80)
  t.strictSame([layout.inFlight.map(({ atMs }) => atMs), layout.mostInFlight], [[10, 30], 4])
  t.strictSame(layOut({ ...empty, inFlight: [{ atMs: 0, requests: 0, streams: 0, webSockets: 0 }] }, 80).inFlight, [], 'nothing was in flight')
})

t.test('the axis has round times, at most one more than requested', async t => {
  t.strictSame(ticksOf(11_460, 8).times, [0, 2_000, 4_000, 6_000, 8_000, 10_000])
  t.strictSame(ticksOf(50, 5).times, [0, 10, 20, 30, 40, 50])
  t.strictSame(ticksOf(60_000, 4).times, [0, 20_000, 40_000, 60_000])
  for (const endMs of [0.001, 1, 3, 49.9, 999, 61_000, 1e12]) {
    for (const most of [1, 2, 5, 8]) {
      const { times } = ticksOf(endMs, most)
      t.ok(times.length <= most + 1 && times.every(Number.isFinite), `${endMs} ms, at most ${most}`)
    }
  }
})
