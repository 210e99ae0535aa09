/** Every planted fault is found, and by its own name. */
import t from 'tap'
import type { RequestClass } from '../../../lib/cli/drill/classes'
import { isRunning } from '../../../lib/cli/drill/process-table'
import type { DrillResult } from '../../../lib/cli/drill/result'
import { clean, drillShortly, failed, fixture } from './helpers'

t.jobs = 4

/** A test that runs beside others. */
const together = { buffered: true }

const losses: ReadonlyArray<readonly [fault: string, found: RequestClass]> = [
  ['drop', 'resetBefore'],
  ['drop with a reset', 'resetBefore'],
  ['truncate a length', 'truncated'],
  ['truncate chunks', 'truncated'],
  ['reset within a length', 'resetAfter'],
  ['reset within chunks', 'resetAfter']
]

/** The failures of other classes. */
const others = ({ restarts }: DrillResult, found: RequestClass): unknown[] => restarts.flatMap(({ failures }) => failures.filter(each => each.class !== found))

for (const [fault, found] of losses) {
  t.test(`a server with the fault '${fault}' loses requests: ${found}`, together, async t => {
    const result = await drillShortly([], fixture('faulty', fault))
    t.equal(result.code, 1)
    t.strictSame(failed(result), ['lost'])
    t.ok(result.requests[found] > 0)
    t.strictSame(others(result, found), [], 'and no other class is blamed')
    t.equal(result.restarts[0]!.process.exitCode, 0)
  })
}

for (const fault of ['hang', 'hang within the answer']) {
  t.test(`a server with the fault '${fault}' is found: hung`, together, async t => {
    const result = await drillShortly(['--grace', '1.5'], fixture('faulty', fault))
    t.equal(result.code, 1)
    t.strictSame(failed(result), ['lost', 'grace'])
    t.ok(result.requests.hung > 0)
    t.strictSame(others(result, 'hung'), [])
  })
}

const faults: ReadonlyArray<readonly [fault: string, rules: readonly string[], args?: readonly string[]]> = [
  ['503', ['retry-after']],
  ['some 503', ['retry-after']],
  ['exit 1', ['exit-code']],
  ['exception', ['exit-code']],
  ['ends itself by the signal', ['ended-by-signal']],
  ['orphan', ['orphan']],
  ['detached orphan', ['orphan']],
  ['inherited listener', ['orphan', 'open-listener']],
  ['second listener', ['open-listener', 'grace'], ['--grace', '1.5']],
  ['timer', ['grace'], ['--grace', '1.5']],
  ['ignores the signal', ['open-listener', 'signal-ignored'], ['--grace', '1']]
]

for (const [fault, rules, args = []] of faults) {
  t.test(`a server with the fault '${fault}' is found: ${rules.join(', ')}`, together, async t => {
    const result = await drillShortly(args, fixture('faulty', fault))
    t.equal(result.code, 1)
    t.strictSame(failed(result).filter(rule => rule !== 'lost'), rules)
    t.ok(result.reasons.every(({ message, hint }) => message.length > 10 && hint.length > 20))
    for (const { pid } of result.restarts[0]!.process.orphans) t.notOk(isRunning(pid), `orphan ${pid} is killed`)
    t.notOk(isRunning(result.restarts[0]!.process.pid), 'the server is gone')
  })
}

t.test('a server without a handler ends by the signal, and an ended process is no orphan', together, async t => {
  const result = await drillShortly([], fixture('faulty', 'no handler'))
  t.equal(result.code, 1)
  t.ok(failed(result).includes('ended-by-signal'))
  t.strictSame(result.restarts[0]!.process.orphans, [])
  t.equal(result.restarts[0]!.process.signal, 'SIGTERM')
})

t.test('a shell that ignores the signal and does not forward it', together, async t => {
  const result = await drillShortly(['--grace', '1'], clean('sh', '-c', 'trap "" TERM; "$@" & wait', 'sh', ...fixture('faulty')))
  t.strictSame(failed(result), ['open-listener', 'signal-ignored'])
})

t.test('a shell that ends by the signal leaves its server behind', together, async t => {
  const result = await drillShortly([], clean('sh', '-c', '"$@" & wait', 'sh', ...fixture('faulty')))
  t.strictSame(failed(result), ['ended-by-signal', 'orphan', 'open-listener'])
  const [orphan] = result.restarts[0]!.process.orphans
  t.match(orphan!.command, /faulty\.js/)
  t.notOk(isRunning(orphan!.pid))
})

t.test('a fault that is allowed by --lost is no failure', together, async t => {
  const result = await drillShortly(['--lost', '1000'], fixture('faulty', 'drop'))
  t.equal(result.code, 0)
  t.equal(result.verdict, 'passed')
  t.ok(result.lost > 0)
})
