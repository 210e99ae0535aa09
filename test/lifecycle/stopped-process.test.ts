/** A process that was stopped: its timers are due at once when it continues, and no step of a shutdown has failed. */
import t from 'tap'
import { createContainment } from '../../lib/lifecycle/containment'

/** Blocks the event loop, as SIGSTOP stops the process. */
function stop (ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

t.test('a step whose own timer is as late as its limit may still end', async t => {
  const problems: string[] = []
  const { run } = createContainment(() => 30, message => { problems.push(message) })
  const step = run('drain', () => new Promise(resolve => { setTimeout(() => setImmediate(resolve, 'drained'), 10) }))
  stop(300)
  t.equal(await step, 'drained')
  t.strictSame(problems, [])
})

t.test('a step that does not end after the stop has failed', async t => {
  const problems: string[] = []
  const { run } = createContainment(() => 30, message => { problems.push(message) })
  const step = run('drain', () => new Promise(() => {}))
  stop(300)
  t.equal(await step, undefined)
  t.strictSame(problems, ["The step 'drain' failed"])
})
