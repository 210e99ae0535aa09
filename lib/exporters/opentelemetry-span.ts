/**
 * The content of a span: its name, its attributes, its error and its cuts. It follows the semantic conventions of
 * OpenTelemetry if they have a name for it.
 */
import type { ResourceResult, ShutdownEvent, TaskResult } from '../../types/index'
import { toError } from '../errors'
import { errorToJson } from '../util/error-json'
import type { Attributes, Span } from './opentelemetry-api'

/** An event of this type. */
export type EventOf<T extends ShutdownEvent['type']> = Extract<ShutdownEvent, { readonly type: T }>

/** A span that is created when its resource, hook or task is over. */
export interface Child extends Pick<ResourceResult | TaskResult, 'outcome' | 'startedMs' | 'durationMs'> {
  readonly name: string
  readonly attributes: Attributes
  readonly error: Error | null
}

/** Most names in an attribute. */
const mostNames = 20

/** Returns the span of a resource, a hook or a task. */
export function childOf (event: EventOf<'resource' | 'hook' | 'task'>): Child {
  switch (event.type) {
    case 'resource': {
      const { name, waitedFor } = event.result
      const names = waitedFor.slice(0, mostNames).join(', ')
      const attributes = { 'fastify_shutdown.resource': name, 'fastify_shutdown.waited_for': names }
      return { ...event.result, name: `resource ${name}`, attributes }
    }
    case 'hook': {
      const { name, hook } = event.result
      const attributes = { 'fastify_shutdown.hook': hook, 'fastify_shutdown.plugin': name }
      return { ...event.result, name: `${hook} hook of ${name}`, attributes }
    }
    case 'task': {
      const { name } = event.result
      const attributes = { 'fastify_shutdown.task': name }
      return { ...event.result, name: `task ${name}`, attributes, error: event.error }
    }
  }
}

/** Returns the status of a span that failed. Its code is `SpanStatusCode.ERROR` of the api. */
export function failedWith (message: string): { code: number, message: string } {
  return { code: 2, message }
}

/** Adds an error to a span: its exception, `error.type` and the status. */
export function fail (span: Span, thrown: unknown, time: number): void {
  const failure = toError(thrown)
  const { name, message, code } = errorToJson(failure)
  span.recordException(failure, time)
  span.setAttributes({ 'error.type': code ?? name })
  span.setStatus(failedWith(message))
}

/** Returns the attributes of the event of a cut. */
export function cutAttributes ({ what, name, ageMs }: EventOf<'request-cut'>): Attributes {
  // The name of a request or stream is its method and the pattern of its route.
  const [, method, route] = /^([A-Z]+) (.*)$/.exec(name) ?? []
  return {
    'fastify_shutdown.cut.kind': what,
    ...(method === undefined
      ? { 'fastify_shutdown.cut.name': name }
      : { 'http.request.method': method, 'http.route': route! }),
    ...(ageMs === null ? {} : { 'fastify_shutdown.cut.age_ms': ageMs })
  }
}
