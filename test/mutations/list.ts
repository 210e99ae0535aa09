/**
 * Plausible mistakes in `lib/`, one line each. `npm run prove:mutations` makes them one at a time in a copy, and the
 * simulation or the named test must fail.
 */

/** One mistake. */
export interface Mutation {
  /** The file, in `lib/`. */
  readonly file: string
  /** The line, without the spaces before it. It is in the file once. */
  readonly line: string
  /** What stands there instead. */
  readonly becomes: string
  /** The test that fails. @default the simulation */
  readonly test?: string
}

/** All mistakes. */
export const mutations: readonly Mutation[] = [
  // lifecycle
  {
    file: 'lifecycle/shutdown.ts',
    line: 'const tasksEnd = startDeadline(deadline.limit(timeouts.tasks, reserve))',
    becomes: 'const tasksEnd = startDeadline(deadline.limit(timeouts.tasks))'
  },
  {
    file: 'lifecycle/shutdown.ts',
    line: 'const drained = await Promise.all(drains.map(drain => drain.drain(deadline.limit(drain.timeout, reserve))))',
    becomes: 'const drained = await Promise.all(drains.map(drain => drain.drain(drain.timeout)))'
  },
  { file: 'lifecycle/shutdown.ts', line: 'await resources.paused()', becomes: 'void resources.paused()' },
  { file: 'lifecycle/shutdown.ts', line: 'if (connections === undefined) traffic.destroyAll()', becomes: '' },
  {
    file: 'lifecycle/shutdown.ts',
    line: 'const tasksDrained = await tasks.drain(deadline.limit(tasksEnd.remaining(), reserve))',
    becomes: "const tasksDrained = 'clean' as const"
  },
  { file: 'lifecycle/shutdown.ts', line: 'lifecycle.abort()', becomes: '' },
  {
    file: 'lifecycle/shutdown.ts',
    line: 'const cleaning = startDeadline(isAbandoned ? deadline.remaining() : Math.max(deadline.remaining(), reserve))',
    becomes: 'const cleaning = startDeadline(deadline.remaining())'
  },
  { file: 'lifecycle/shutdown.ts', line: 'void drain()', becomes: '' },
  {
    file: 'lifecycle/shutdown.ts',
    line: 'await within(deadline.remaining(), () => Promise.race([closed, finished.promise]))',
    becomes: 'await Promise.race([closed, finished.promise])'
  },
  {
    file: 'lifecycle/shutdown.ts',
    line: 'lifecycle.end(worstOutcome([...closed, ...hooks].map(({ outcome }) => outcome)))',
    becomes: 'lifecycle.end(worstOutcome(hooks.map(({ outcome }) => outcome)))'
  },
  { file: 'lifecycle/caller.ts', line: 'if (!started && lifecycle.reason === null) reason = why', becomes: 'reason = why' },
  {
    file: 'lifecycle/caller.ts',
    line: 'leave(exit ? (problems.errors.length > 0 ? 1 : report.exitCode) : null)',
    becomes: 'leave(exit ? report.exitCode : null)'
  },
  {
    file: 'lifecycle/lame-duck.ts',
    line: "return await lastRequest.untilQuiet(quiet, max - elapsed()) ? 'quiet' : 'max'",
    becomes: "return await lastRequest.untilQuiet(quiet, max) ? 'quiet' : 'max'"
  },
  { file: 'lifecycle/lame-duck.ts', line: 'if (min > 0) await sleep(min)', becomes: '' },
  { file: 'lifecycle/tasks.ts', line: "if (!lifecycle.hasReached('cleaning')) return null", becomes: "if (lifecycle.phase !== 'shutdown') return null" },
  { file: 'lifecycle/tasks.ts', line: 'rejected.catch(() => {})', becomes: '' },
  {
    file: 'lifecycle/tasks.ts',
    line: 'return signal.aborted && (thrown === signal.reason || nameOf(thrown) === \'AbortError\')',
    becomes: 'return signal.aborted && thrown === signal',
    test: 'test/lifecycle/tasks.test.ts'
  },
  { file: 'lifecycle/report.ts', line: "exitCode: outcome === 'failed' || cutAtWork > 0 ? 1 : 0,", becomes: "exitCode: outcome === 'failed' ? 1 : 0," },
  { file: 'lifecycle/close.ts', line: 'if (current.getStore()?.includes(key) === true) return', becomes: '' },
  // http
  { file: 'http/last-request.ts', line: 'if (lastResponse === res) times[last] = times[before]!', becomes: '', test: 'test/http/quiet.test.ts' },
  {
    file: 'http/last-request.ts',
    line: '(time, { since, isUsed }) => isUsed ? time : Math.max(time, since), -Infinity',
    becomes: '(time, { since, isUsed }) => isUsed ? Math.max(time, since) : time, -Infinity',
    test: 'test/http/quiet.test.ts'
  },
  {
    file: 'http/request-counts.ts',
    line: 'begin () { before = { completed: table.completed, rejected: table.rejected, aborted: table.aborted } },',
    becomes: 'begin () {},'
  },
  { file: 'http/request-counts.ts', line: "if (waitsFor === 'app') cutAtWork++", becomes: 'cutAtWork++' },
  // drains
  {
    file: 'http/drains/requests.ts',
    line: "const name = kind === 'stream' ? 'streams' : 'requests'",
    becomes: "const name = kind === 'stream' ? 'requests' : 'streams'"
  },
  { file: 'http/drains/requests.ts', line: 'if (ofCategory !== undefined) return ofCategory', becomes: '' },
  {
    file: 'http/drains/requests.ts',
    line: 'if (await inTime(Math.max(0, began + step - now()), table.untilAnswered())) return outcome',
    becomes: 'if (await inTime(step, table.untilAnswered())) return outcome'
  },
  { file: 'http/drains/requests.ts', line: "if (cut.length > 0) outcome = 'forced'", becomes: '' },
  // resources
  {
    file: 'resources/close-resource.ts',
    line: 'const granted = Math.max(0, Math.min(time, remaining() - forceTimeout(time)))',
    becomes: 'const granted = Math.max(0, time)'
  },
  { file: 'resources/close-resource.ts', line: 'if (closing.sharedTimeout === null) return // Its time was up earlier.', becomes: '' },
  { file: 'resources/close-resource.ts', line: 'if (current?.millisecond === millisecond) return current', becomes: 'if (current !== undefined) return current' },
  { file: 'resources/dependency-graph.ts', line: 'if (earlier.size > 0) for (const node of lasts) node.openDependants++', becomes: '' },
  { file: 'resources/teardown.ts', line: "if (entry.openDependants === 0 && entry.state === 'allowed') startInTurn(entry)", becomes: 'if (entry.openDependants === 0) startInTurn(entry)' },
  { file: 'resources/teardown.ts', line: 'if (closing > 0) await noneClosing()', becomes: '', test: 'test/resources/teardown.test.ts' },
  { file: 'resources/teardown.ts', line: 'if (!held.has(dependant.name)) allowed.add(dependant)', becomes: 'allowed.add(dependant)', test: 'test/resources/teardown.test.ts' },
  { file: 'resources/resources.ts', line: 'runInside(() => closing.add(name, resource))', becomes: 'closing.add(name, resource)' },
  { file: 'resources/resources.ts', line: 'if (resource.pause === undefined || paused.get(name) === resource.pause) continue', becomes: 'if (resource.pause === undefined) continue' },
  { file: 'resources/close-hooks.ts', line: 'for (const owner of owners) await runInside(() => teardown.closeDependantsOf(owner))', becomes: '' },
  { file: 'resources/registry.ts', line: 'removed.add(name)', becomes: '', test: 'test/resources/registry.test.ts' },
  // process
  { file: 'process/signals.ts', line: 'else if (secondSignal.isDeliberate()) exitAtOnce(signal)', becomes: 'else exitAtOnce(signal)' },
  { file: 'process/signals.ts', line: 'secondSignal.awaitPause()', becomes: 'if (stopping.size === 0) secondSignal.awaitPause()' },
  { file: 'process/signals.ts', line: 'wait: !othersListen ? 0 : crashed ? crashTime : wait,', becomes: 'wait: 0,' },
  { file: 'process/signals.ts', line: 'markFailed()', becomes: '' },
  { file: 'process/exit.ts', line: 'if (code === 1) markFailed()', becomes: '' },
  { file: 'process/second-signal.ts', line: 'isDeliberate: () => current.over,', becomes: 'isDeliberate: () => false,' },
  // times
  { file: 'times.ts', line: 'return Math.min(resources, total / 2)', becomes: 'return resources' },
  { file: 'util/time.ts', line: 'limit: (timeout, reserve = 0) => Math.max(0, Math.min(timeout, remaining() - reserve))', becomes: 'limit: (timeout, reserve = 0) => Math.max(0, Math.min(timeout - reserve, remaining()))' },
  { file: 'times.ts', line: 'return Math.min(1_000, Math.ceil(gracePeriod / 20))', becomes: 'return 0', test: 'test/options.test.ts' }
]
