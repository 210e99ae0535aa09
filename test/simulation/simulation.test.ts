/** 2 000 shutdowns with random faults, in virtual time. `npm run simulate -- --seeds 100000` plays more. */
import t from 'tap'
import { simulate } from './simulate'

t.test('no rule is broken in 2 000 shutdowns with random faults', { timeout: 120_000 }, async t => {
  const outcomes = new Set<string>()
  // Most of the errors are simulated, and their stacks take time.
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  t.teardown(() => { Error.stackTraceLimit = stackTraceLimit })
  for (let seed = 1; seed <= 2_000; seed++) {
    try {
      outcomes.add((await simulate(seed)).outcome)
    } catch (error) {
      t.fail(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`)
      return
    }
  }
  t.strictSame([...outcomes].sort(), ['clean', 'failed', 'forced'], 'each outcome is played')
})
