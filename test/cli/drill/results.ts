/** Results of a drill for the tests of its outputs. */
import { noRequests, type RequestCounts } from '../../../lib/cli/drill/classes'
import type { DrillResult, ProcessResult, Restart } from '../../../lib/cli/drill/result'
import { noStreams } from '../../../lib/cli/drill/streams'
import { judge } from '../../../lib/cli/drill/verdict'
import { noWebSockets } from '../../../lib/cli/drill/websockets'

export const limits = { lost: 0, graceMs: 30_000, signal: 'SIGTERM' } as const

/** What differs from a restart in which nothing went wrong. */
export interface Given {
  readonly before?: Partial<RequestCounts>
  readonly after?: Partial<RequestCounts>
  readonly process?: Partial<ProcessResult>
  readonly more?: Partial<Restart>
}

/** A restart in which nothing went wrong, with changes. */
export function restart ({ before = {}, after = {}, process = {}, more = {} }: Given = {}): Restart {
  return {
    url: 'http://127.0.0.1:3000',
    before: { ...noRequests(), answered: 100, ...before },
    after: { ...noRequests(), answered: 10, refused: 20, ...after },
    statuses: { before: { 200: 100 }, after: { 200: 10 } },
    streams: noStreams(),
    webSockets: noWebSockets(),
    process: {
      pid: 42,
      ended: true,
      exitCode: 0,
      signal: null,
      ignoredSignal: false,
      orphans: [],
      openListeners: [],
      phases: { start: 300, serving: 10, draining: 500, closing: 20, total: 530 },
      ...process
    },
    failures: [],
    bars: [{ atMs: 0, counts: { answered: 100 } }, { atMs: 2_000, counts: { answered: 10, refused: 20 } }],
    marks: { signal: 2_000, end: 2_530 },
    ...more
  }
}

/** The result of restarts. */
export function resultOf (restarts: readonly Restart[], command: readonly string[] = ['node', 'server.js']): DrillResult {
  const verdict = judge(restarts, limits)
  return {
    schemaVersion: 1,
    verdict: verdict.reasons.length === 0 ? 'passed' : 'failed',
    startedAt: '2026-01-02T03:04:05.678Z',
    durationMs: 3_456,
    options: { command, signal: 'SIGTERM', grace: 30, lost: 0, rate: 200, connections: 8, requests: ['GET /'] },
    ...verdict,
    restarts
  }
}
