/**
 * The spans of one shutdown: `shutdown`, with a child for each phase, resource, hook and task, and an event for each
 * cut. A child is created when it is over, except a phase. All times are explicit: they are those of the report.
 */
import type { Outcome, Phase, ResourceResult, ShutdownEvent, ShutdownReport } from '../../types/index'
import { worstOutcome } from '../util/worst-outcome'
import { scope, type Attributes, type OpenTelemetryApi, type Span } from './opentelemetry-api'
import { childOf, cutAttributes, fail, failedWith, type Child, type EventOf } from './opentelemetry-span'

/** The spans of one shutdown. */
export interface Spans {
  /** Whether the span of the shutdown has ended. */
  readonly isOver: boolean
  /** Adds an event of the shutdown. Events before its first phase, and after its end, are ignored. */
  add(event: ShutdownEvent): void
  /** Ends the spans that are still open. */
  end(): void
}

/**
 * Most children of a shutdown. The queue of an SDK holds 2 048 spans by default, and drops the newest. The span of the
 * shutdown is the last one.
 */
const mostChildren = 1_000

/** The span of the shutdown or of a phase, while it is open. */
interface Open {
  readonly span: Span
  outcome: Outcome
}

/**
 * Creates the spans of one shutdown.
 *
 * @param attributes attributes of every span
 * @param hasBegun returns whether the shutdown has begun. Its first phase event comes later
 */
export function createSpans (api: OpenTelemetryApi, attributes: Attributes, hasBegun: () => boolean): Spans {
  let root: Open | null = null
  let phase: Open | null = null
  /** The last problem before the shutdown. If it is an uncaught error, it begins the shutdown. */
  let crash: ShutdownEvent | null = null
  /** The problems between the beginning of the shutdown and its first phase event. */
  const early: ShutdownEvent[] = []
  let isOver = false
  /** When the shutdown began, in milliseconds since the epoch. */
  let began = 0
  let children = 0
  let cuts = 0

  return {
    get isOver () { return isOver },
    add (event) {
      if (isOver) return
      if (event.type === 'phase') enter(event)
      else if (root !== null) addTo(root, event)
      else if (event.type === 'problem' && hasBegun()) early.push(event)
      else if (event.type === 'problem') crash = event
    },
    end () { if (root !== null && !isOver) finish(root, Date.now() - began) }
  }

  function enter (event: EventOf<'phase'>): void {
    endPhase(event.atMs)
    const shutdown = root ??= begin(event)
    if (event.phase !== 'shutdown') phase = { span: openPhase(shutdown, event.phase, event.atMs), outcome: 'clean' }
    if (crash !== null && event.reason.kind === 'error') early.unshift(crash)
    crash = null
    for (const problem of early.splice(0)) addTo(shutdown, problem)
  }

  function begin ({ atMs, reason }: EventOf<'phase'>): Open {
    began = Date.now() - atMs
    const own = { 'fastify_shutdown.reason.kind': reason.kind, 'fastify_shutdown.reason.detail': reason.detail }
    const options = { root: true, startTime: began, attributes: { ...attributes, ...own } }
    return { span: api.trace.getTracer(scope).startSpan('shutdown', options, api.ROOT_CONTEXT), outcome: 'clean' }
  }

  function openPhase (root: Open, name: Phase, atMs: number): Span {
    return startChild(root, `phase ${name}`, atMs, { 'fastify_shutdown.phase': name })
  }

  function addTo (root: Open, event: ShutdownEvent): void {
    switch (event.type) {
      case 'resource':
      case 'hook':
      case 'task': return addChild(root, childOf(event))
      case 'request-cut':
        cuts++
        note('forced')
        root.span.addEvent('fastify_shutdown.cut', cutAttributes(event), Date.now())
        return
      case 'problem':
        note('failed')
        root.span.addEvent('fastify_shutdown.problem', { 'fastify_shutdown.step': event.message }, Date.now())
        for (const each of [root, phase]) if (each !== null) fail(each.span, event.error, Date.now())
        return
      case 'last-resources': return finish(root, event.atMs)
      case 'report': return finish(root, event.report.durationMs, event.report)
    }
  }

  function addChild (root: Open, { name, attributes, outcome, startedMs, durationMs, error }: Child): void {
    const hasFailed = outcome === 'failed' || outcome === 'abandoned'
    if (hasFailed || outcome === 'forced') note(outcome)
    if (hasFailed) {
      for (const each of [root, phase]) each?.span.setStatus(failedWith(`${name} ${outcome}`))
    }
    if (++children > mostChildren) return
    const span = startChild(root, name, startedMs, { ...attributes, 'fastify_shutdown.outcome': outcome })
    if (hasFailed) fail(span, error, began + startedMs + durationMs)
    span.end(began + startedMs + durationMs)
  }

  function startChild ({ span }: Open, name: string, startedMs: number, own: Attributes): Span {
    const options = { startTime: began + startedMs, attributes: { ...attributes, ...own } }
    return api.trace.getTracer(scope).startSpan(name, options, api.trace.setSpan(api.ROOT_CONTEXT, span))
  }

  /** Records an outcome of a part for the phase and for the shutdown. */
  function note (outcome: Outcome | ResourceResult['outcome']): void {
    for (const each of [root, phase]) if (each !== null) each.outcome = worstOutcome([each.outcome, outcome])
  }

  function endPhase (atMs: number): void {
    phase?.span.setAttributes({ 'fastify_shutdown.outcome': phase.outcome })
    phase?.span.end(began + atMs)
    phase = null
  }

  /** @param report `undefined` if the shutdown is not over yet */
  function finish (root: Open, atMs: number, report?: ShutdownReport): void {
    isOver = true
    endPhase(atMs)
    root.span.setAttributes({
      'fastify_shutdown.outcome': report?.outcome ?? root.outcome,
      'fastify_shutdown.cuts': cuts,
      ...(report === undefined ? {} : { 'process.exit.code': report.exitCode }),
      ...(children > mostChildren ? { 'fastify_shutdown.dropped_spans': children - mostChildren } : {})
    })
    if (report?.outcome === 'failed') root.span.setStatus(failedWith(report.errors[0]?.message ?? 'failed'))
    root.span.end(began + atMs)
  }
}
