/**
 * Health routes. Readiness turns at the first moment of lame-duck; liveness stays 200 to the end, or the orchestrator would
 * kill what is draining. Bodies say `ok` or which check failed, by name only: an error's text may hold a password.
 */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Check, ShutdownState } from '../types/index'
import { now, within } from './deadline'
import type { Settings } from './options'

/** How long an answer of the checks is good for, in milliseconds: probes of several load balancers share one. */
const freshFor = 500
/** What a check may take where it names no time, in milliseconds. */
const checkTimeout = 2_000

/**
 * For @fastify/under-pressure, which asks the route's config first: what is under pressure is not ready, but alive. Its 503 on
 * liveness would have it restarted, and the others take over its load.
 */
const unpressed = { pressureHandler () {} }

export function addProbes (app: FastifyInstance, probes: Exclude<Settings['probes'], false>, state: ShutdownState, booted: () => boolean, retryAfter: () => number, onProblem: (message: string, error: unknown) => void): void {
  const checks = createChecks(probes.checks ?? {}, onProblem)
  add(probes.live, reply => answer(reply, true), unpressed)
  add(probes.startup, reply => answer(reply, booted()), unpressed)
  add(probes.ready, async reply => {
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

/** @returns the names of those that failed. Run together; a check that is still running is never started a second time. */
export function createChecks (checks: NonNullable<Exclude<Settings['probes'], false>['checks']>, onProblem: (message: string, error: unknown) => void): () => Promise<readonly string[]> {
  const all = Object.entries(checks).map(([name, given]) => {
    const { check, timeout = checkTimeout } = typeof given === 'function' ? { check: given } : given
    return { name, timeout, run: oneAtATime(check) }
  })
  const failing = new Set<string>()
  let latest: { readonly at: number, readonly failed: Promise<readonly string[]> } | null = null

  return () => {
    if (latest === null || now() - latest.at > freshFor) latest = { at: now(), failed: runAll() }
    return latest.failed
  }

  async function runAll (): Promise<readonly string[]> {
    const results = await Promise.all(all.map(async ({ name, timeout, run }) => {
      const settled = await within(timeout, run)
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

function oneAtATime (check: Check): () => Promise<unknown> {
  let running: Promise<unknown> | null = null
  return () => {
    running ??= new Promise(resolve => resolve(check())).finally(() => { running = null })
    return running
  }
}
