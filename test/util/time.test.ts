import t from 'tap'
import { after, every, excludeStops, longestTimer, sleep, startDeadline, within } from '../../lib/util/time'

t.test('a time that is longer than Node allows for a timer is shortened to the longest, and not to 1 ms', async t => {
  for (const ms of [longestTimer + 0.5, longestTimer + 1, 2 ** 53, Infinity]) {
    let calls = 0
    const cancels = [after(ms, () => { calls++ }), every(ms, () => { calls++ })]
    const settled = within(ms, () => sleep(30))
    t.match(await settled, { status: 'fulfilled' })
    t.equal(calls, 0, String(ms))
    for (const cancel of cancels) cancel()
  }
})

t.test('time in which the event loop was blocked counts, except while stops are excluded', async t => {
  const block = (ms: number): void => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms) }
  const counted = startDeadline(1_000)
  block(1_000)
  t.equal(counted.remaining(), 0)

  const includeStops = excludeStops()
  t.teardown(includeStops)
  const excluded = startDeadline(1_000)
  const work = within(500, async () => await sleep(400))
  block(1_000)
  t.ok(excluded.remaining() > 500, `${excluded.remaining()} ms remain`)
  t.strictSame(await work, { status: 'fulfilled', value: undefined }, 'a timeout waits longer, too')
  await sleep(excluded.remaining() + 50)
  t.equal(excluded.remaining(), 0, 'time in which the process runs still counts')
})
