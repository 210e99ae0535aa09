/**
 * Health routes. Readiness is 503 from the beginning of lame-duck. Liveness is 200 until the end, because otherwise the
 * orchestrator would restart a server that drains. A body contains `ok`, or only the names of the failed checks,
 * because the message of an error may contain a password.
 */
import type { FastifyInstance } from 'fastify'
import type { Check, ShutdownState } from '../../types/index'
import { now, within, type Settled } from '../util/time'
import type { Lifecycle } from '../lifecycle/phases'
import type { OnProblem } from '../lifecycle/problems'
import type { Settings } from '../options'

/** How long the probes of several load balancers share one result of the checks, in milliseconds. */
const freshFor = 500
/** Longest time of a check that has no `timeout`, in milliseconds. */
const checkTimeout = 2_000
/** Most runs of one check that may be pending at the same time. */
const maxPending = 2
/** Longest time that an abandoned run counts as pending, in milliseconds. */
const longestPendingTime = 30_000
/** Factor by which that time grows after each abandoned run that does not settle. */
const pendingTimeGrowth = 1.5

/**
 * Route config for @fastify/under-pressure, which reads it first. A server under pressure is alive, but not ready. With
 * a 503 on liveness the orchestrator would restart it, and its load would move to the other servers.
 */
const ignorePressure = { pressureHandler () {} }

/** What the health routes read. */
export interface ProbesOptions {
  readonly lifecycle: Lifecycle
  readonly state: ShutdownState
  /** Returns the Retry-After of one answer, in seconds. */
  readonly retryAfter: () => number
  /** Called when a check begins to fail. */
  readonly onProblem: OnProblem
}

/** The answer to a probe. */
export interface ProbeAnswer {
  readonly status: 200 | 503
  readonly headers: Readonly<Record<string, string | number>>
  readonly body: object
}

/** One health route. */
export interface Probe {
  readonly path: string
  /** Whether @fastify/under-pressure must not answer it. */
  readonly ignoresPressure: boolean
  answer(): ProbeAnswer | Promise<ProbeAnswer>
}

/** Creates the health routes. @param probes the option `probes`; `false` creates none */
export function createProbes (
  probes: Settings['probes'], { lifecycle, state, retryAfter, onProblem }: ProbesOptions
): readonly Probe[] {
  if (probes === false) return []
  const checks = createChecks(probes.checks ?? {}, onProblem)
  const all: readonly (Omit<Probe, 'path'> & { readonly path: string | false })[] = [
    { path: probes.liveness, ignoresPressure: true, answer: () => answer(true) },
    { path: probes.startup, ignoresPressure: true, answer: () => answer(lifecycle.booted) },
    {
      path: probes.readiness,
      ignoresPressure: false,
      async answer () {
        if (!state.ready) return answer(false)
        const failed = await checks()
        return answer(failed.length === 0 && state.ready, failed)
      }
    }
  ]
  return all.flatMap(({ path, ...probe }) => path === false ? [] : [{ path, ...probe }])

  function answer (ok: boolean, failed: readonly string[] = []): ProbeAnswer {
    const headers = { 'cache-control': 'no-store' }
    if (ok) return { status: 200, headers, body: { status: 'ok' } }
    return {
      status: 503,
      headers: { ...headers, 'retry-after': retryAfter() },
      body: { status: 'unavailable', ...(failed.length > 0 && { failed }) }
    }
  }
}

/** Adds the health routes to an app. */
export function addProbes (app: FastifyInstance, probes: readonly Probe[]): void {
  for (const { path, ignoresPressure, answer } of probes) {
    app.route({
      method: ['GET', 'HEAD'],
      url: path,
      config: { ...ignoresPressure ? ignorePressure : {}, shutdown: { exempt: true } },
      // Without a log line for each probe, because each load balancer sends one every second.
      logLevel: 'warn',
      async handler (_request, reply) {
        const { status, headers, body } = await answer()
        return await reply.code(status).headers(headers).send(body)
      }
    })
  }
}

/**
 * Prepares the checks. They run in parallel, and callers within 500 ms share one result.
 *
 * @returns a function that runs them, and resolves to the names of the checks that failed
 */
function createChecks (
  checks: NonNullable<Exclude<Settings['probes'], false>['checks']>,
  onProblem: OnProblem
): () => Promise<readonly string[]> {
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
      // Reported once, when the check begins to fail, because probes come every second.
      if (!failing.has(name)) {
        const late = settled.status === 'late' ? new Error(`It took longer than ${timeout} ms`) : null
        onProblem(`The check '${name}' failed`, settled.status === 'rejected' ? settled.reason : late)
      }
      failing.add(name)
      return name
    }))
    return results.filter(name => name !== null)
  }
}

/**
 * Shares the current run of a check between all callers, until it settles or exceeds `timeout`. A run that exceeds it
 * is abandoned: its signal aborts, its result is ignored, and the next call starts a new run.
 *
 * An abandoned run counts as pending until it settles, and at most two runs may be pending. If two runs never settled,
 * readiness would stay 503 after the dependency has recovered. So the older run counts only for a limited time: at
 * first for `timeout`, then 1.5 times as long for each further run, at most 30 s.
 *
 * After an outage, a new run starts within about half of the outage's length, at most 18 s with the default timeout.
 * During an outage, a check that never settles starts 9 times in the first minute, then 4 times per minute. A check
 * that settles when its signal aborts has only one run at a time, and its next run starts without a delay.
 */
function sharedRuns (check: Check, timeout: number): () => Promise<Settled<unknown>> {
  let current: Promise<Settled<unknown>> | null = null
  /** The abandoned runs that count as pending, oldest first. */
  const abandoned = new Set<{ readonly at: number }>()
  /** How long an abandoned run counts as pending, in milliseconds. */
  let pendingTime = timeout

  return async () => {
    if (current === null && mayStart()) current = run()
    return await (current ?? { status: 'late' })
  }

  function mayStart (): boolean {
    const [oldest] = abandoned
    if (oldest === undefined || abandoned.size < maxPending) return true
    if (now() - oldest.at < pendingTime) return false
    abandoned.delete(oldest)
    pendingTime = Math.min(pendingTime * pendingTimeGrowth, Math.max(timeout, longestPendingTime))
    return true
  }

  async function run (): Promise<Settled<unknown>> {
    const abort = new AbortController()
    const pending = new Promise(resolve => resolve(check(abort.signal)))
    const settled = await within(timeout, () => pending)
    current = null
    if (settled.status === 'late') {
      const stuck = { at: now() }
      const forget = (): void => { abandoned.delete(stuck) }
      abandoned.add(stuck)
      pending.then(forget, forget)
      abort.abort(new DOMException(`The check took longer than ${timeout} ms`, 'TimeoutError'))
    } else {
      pendingTime = timeout
    }
    return settled
  }
}
