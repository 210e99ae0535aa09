/**
 * Assertions on the report. They throw the AssertionError of `node:assert`, which every test runner knows. They also
 * take a report that was read from JSON.
 */
import { AssertionError } from 'node:assert'
import type { ShutdownReport } from '../../types/index'
import { suggest } from '../util/did-you-mean'
import { blemishesOf, lossesOf } from './losses'
import { closesOf, closesBefore } from './order'

/**
 * Asserts that the outcome is `clean`: nothing was cut, forced or abandoned, and nothing failed.
 *
 * @throws AssertionError whose message names each reason
 */
export function assertClean (report: ShutdownReport): void {
  if (report.outcome === 'clean') return
  fail(assertClean, report.outcome, 'clean', [
    `Expected a clean shutdown, but its outcome is '${report.outcome}':`, ...blemishesOf(report)
  ])
}

/**
 * Asserts that no work was lost: no request or stream was cut, no WebSocket was terminated, and no task failed or was
 * abandoned. A request that was rejected with 503 is not lost, because its client repeats it. The resources do not
 * count.
 *
 * @throws AssertionError whose message names each loss
 */
export function assertNothingLost (report: ShutdownReport): void {
  const losses = lossesOf(report)
  if (losses.length > 0) fail(assertNothingLost, losses, [], ['Expected that nothing is lost, but:', ...losses])
}

/**
 * Asserts that resources close one after the other: each one is over before the next one begins. A name may also be
 * that of a plugin: all its preClose and onClose hooks count. Others may close in between.
 *
 * @param names resources and plugins, the first to close first
 * @throws AssertionError whose message names the two that are in another order, or the name that is not in the report
 */
export function assertOrder (report: ShutdownReport, names: readonly string[]): void {
  const closes = closesOf(report)
  const ordered = names.map(name => closes.get(name) ?? fail(assertOrder, [...closes.keys()], names, [
    `The report has no resource or hook '${name}'${suggest(name, closes.keys())}`,
    `It has ${[...closes.keys()].join(', ') || 'none'}`
  ]))
  const actual = [...ordered].sort((a, b) => a.startedMs - b.startedMs)
  ordered.forEach((next, index) => {
    const previous = ordered[index - 1]
    if (previous === undefined || closesBefore(previous, next, closes)) return
    fail(assertOrder, actual.map(({ name }) => name), names, [
      `Expected that '${previous.name}' is closed before '${next.name}' begins to close, but:`,
      ...actual.map(({ name, startedMs, endedMs }) => `${name} closed from ${ms(startedMs)} to ${ms(endedMs)}`)
    ])
  })
}

const ms = (time: number): string => `${Number(time.toFixed(3))} ms`

/**
 * Throws an error with one line for the expectation, and one for each fact. Its stack begins at the caller's test.
 * `any`, because each assertion has its own parameters.
 */
function fail (
  assertion: (...args: any[]) => void, actual: unknown, expected: unknown, lines: readonly string[]
): never {
  const [expectation, ...facts] = lines
  const message = [expectation, ...facts.map(fact => `  - ${fact}`)].join('\n')
  throw new AssertionError({ message, actual, expected, operator: assertion.name, stackStartFn: assertion })
}
