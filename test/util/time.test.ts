import t from 'tap'
import { after, every, longestTimer, sleep, within } from '../../lib/util/time'

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
