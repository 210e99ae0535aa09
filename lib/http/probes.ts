/**
 * Health routes. Readiness turns at the first moment of lame-duck; liveness stays 200 to the end, or the orchestrator would
 * kill what is draining. Bodies say `ok` or which check failed, by name only: an error's text may hold a password.
 */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Check, ShutdownState } from '../../types/index'
import { now, within, type Settled } from '../util/time'
import type { Settings } from '../options'

/** How long an answer of the checks is good for, in milliseconds: probes of several load balancers share one. */
const freshFor = 500
/** What a check may take where it names no time, in milliseconds. */
const checkTimeout = 2_000
/** How many runs of one check may be pending at the same time. */
const maxPending = 2
/** Longest time that a run counts as pending after it was given up, in milliseconds. */
const longestCount = 30_000
/** By how much that time grows from one run to the next that never settles. */
const countGrowth = 1.5

/**
 * For @fastify/under-pressure, which asks the route's config first: what is under pressure is not ready, but alive. Its 503 on
 * liveness would have it restarted, and the others take over its load.
 */
const unpressed = { pressureHandler () {} }

export function addProbes (app: FastifyInstance, probes: Exclude<Settings['probes'], false>, state: ShutdownState, booted: () => boolean, retryAfter: () => number, onProblem: (message: string, error: unknown) => void): void {
  const checks = createChecks(probes.checks ?? {}, onProblem)
  add(probes.liveness, reply => answer(reply, true), unpressed)
  add(probes.startup, reply => answer(reply, booted()), unpressed)
  add(probes.readiness, async reply => {
    if (!state.ready) return await answer(reply, false)
    const failed = await checks()
    return await answer(reply, failed.length === 0 && state.ready, failed)
  })

  function add (url: string | false, handler: (reply: FastifyReply) => Promise<FastifyReply>, config: object = {}): void {
    if (url === false) return
    app.route({
      method: ['GET', 'HEAD'],
      url,
      config: { ...config, shutdown: { exempt: true } },
      // A line each second from each load balancer is no news.
      logLevel: 'warn',
      handler: async (_request, reply) => await handler(reply)
    })
  }

  async function answer (reply: FastifyReply, ok: boolean, failed: readonly string[] = []): Promise<FastifyReply> {
    reply.header('cache-control', 'no-store')
    if (ok) return reply.send({ status: 'ok' })
    reply.code(503).header('retry-after', retryAfter())
    return reply.send({ status: 'unavailable', ...(failed.length > 0 && { failed }) })
  }
}

/** @returns the names of the checks that failed. All checks run in parallel; callers within 500 ms share one result. */
export function createChecks (checks: NonNullable<Exclude<Settings['probes'], false>['checks']>, onProblem: (message: string, error: unknown) => void): () => Promise<readonly string[]> {
  const all = Object.entries(checks).map(([name, given]) => {
    const { check, timeout = checkTimeout } = typeof given === 'function' ? { check: given } : given
    return { name, timeout, run: sharedRuns(check, timeout) }
  })
  const failing = new Set<string>()
  let latest: { readonly at: number, readonly failed: Promise<readonly string[]> } | null = null

  return () => {
    if (latest === null || now() - latest.at > freshFor) latest = { at: now(), failed: runAll() }
    return latest.failed
  }

  async function runAll (): Promise<readonly string[]> {
    const results = await Promise.all(all.map(async ({ name, timeout, run }) => {
      const settled = await run()
      if (settled.status === 'fulfilled' && settled.value !== false) {
        failing.delete(name)
        return null
      }
      // Told once, when it turns: probes come every second.
      if (!failing.has(name)) {
        onProblem(`The check '${name}' failed`, settled.status === 'rejected' ? settled.reason : settled.status === 'late' ? new Error(`It took longer than ${timeout} ms`) : null)
      }
      failing.add(name)
      return name
    }))
    return results.filter(name => name !== null)
  }
}

/**
 * Shares the current run of a check between all callers, until it settles or exceeds `timeout`. Then the run is given up:
 * its signal aborts, its result is ignored because it is old, and the next call starts a new run.
 *
 * A run that was given up counts as pending until it settles, and at most two runs count at the same time. With two that
 * never settle, readiness would stay 503 after the dependency has recovered. So the older one no longer counts some time
 * after it was given up: `timeout` at first, 1.5 times as long for each further run, at most 30 s.
 *
 * After an outage a new run starts within about half of the outage's length, at most 18 s with the default timeout. In
 * that outage a check that never settles is started 9 times in the first minute, then 4 times per minute. A check that
 * ends when its signal aborts has only one run at a time, and its next run never waits.
 */
function sharedRuns (check: Check, timeout: number): () => Promise<Settled<unknown>> {
  let current: Promise<Settled<unknown>> | null = null
  // The oldest first.
  const givenUp = new Set<{ readonly at: number }>()
  let countsFor = timeout

  return async () => {
    if (current === null && mayStart()) current = run()
    return await (current ?? { status: 'late' })
  }

  function mayStart (): boolean {
    const [oldest] = givenUp
    if (oldest === undefined || givenUp.size < maxPending) return true
    if (now() - oldest.at < countsFor) return false
    givenUp.delete(oldest)
    countsFor = Math.min(countsFor * countGrowth, Math.max(timeout, longestCount))
    return true
  }

  async function run (): Promise<Settled<unknown>> {
    const abort = new AbortController()
    const pending = new Promise(resolve => resolve(check(abort.signal)))
    const settled = await within(timeout, () => pending)
    current = null
    if (settled.status === 'late') {
      const stuck = { at: now() }
      const forget = (): void => { givenUp.delete(stuck) }
      givenUp.add(stuck)
      pending.then(forget, forget)
      abort.abort(new DOMException(`The check took longer than ${timeout} ms`, 'TimeoutError'))
    } else {
      countsFor = timeout
    }
    return settled
  }
}
