/** What a user's compiler sees, through the package's own name: needs a build. */
import Fastify, { type FastifyRequest, type FastifyTypeProviderDefault, type LightMyRequestResponse } from 'fastify'
import type { gracefulShutdown as named } from 'fastify-shutdown'
import gracefulShutdown, { sse, teardown } from 'fastify-shutdown'
import { assertClean, assertNothingLost, assertOrder, inFlight, shutDown, silentSocket, stuck } from 'fastify-shutdown/testing'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { expect, test } from 'tstyche'

const app = Fastify()

test('the plugin is its default and its named export', () => {
  expect<typeof gracefulShutdown>().type.toBe<typeof named>()
  expect(app.register).type.toBeCallableWith(gracefulShutdown)
  expect(app.register).type.toBeCallableWith(gracefulShutdown, { delay: 5_000, retryAfter: [5, 15] as const })
  expect(app.register).type.not.toBeCallableWith(gracefulShutdown, { delay: '5s' })
})

test('options take what they say and nothing else', () => {
  expect<{ signals: ['SIGTERM'], exit: false, track: 'detail' }>().type.toBeAssignableTo<gracefulShutdown.Options>()
  expect<{ signals: false }>().type.toBeAssignableTo<gracefulShutdown.Options>()
  expect<{ signals: ['SIGKILL'] }>().type.not.toBeAssignableTo<gracefulShutdown.Options>()
  expect<{ refuse: 'never' }>().type.not.toBeAssignableTo<gracefulShutdown.Options>()
  expect<{ resources: { a: { dependsOn: string[], close: () => Promise<void> } } }>().type.toBeAssignableTo<gracefulShutdown.Options>()
  expect<{ resources: { a: AsyncDisposable } }>().type.toBeAssignableTo<gracefulShutdown.Options>()
})

test('the state is live and read-only', () => {
  expect(app.shutdownState).type.toBe<gracefulShutdown.ShutdownState>()
  expect(app.shutdownState.phase).type.toBe<'running' | 'lame-duck' | 'draining' | 'cleaning' | 'shutdown'>()
  expect(app.shutdownState.signal).type.toBe<AbortSignal>()
  // @ts-expect-error Cannot assign to 'phase' because it is a read-only property
  app.shutdownState.phase = 'running'
})

test('one can shut down, add, wait, run and stream', () => {
  expect(app.shutdown.start()).type.toBe<Promise<gracefulShutdown.ShutdownReport>>()
  expect(app.shutdown.resource('a', { close () {} })).type.toBe<() => void>()
  expect(app.shutdown.task('t', async signal => signal.aborted)).type.toBe<Promise<boolean>>()
  expect(app.shutdown.stream([], { end: sse() })).type.toBe<Readable>()
  expect(app.shutdown.stream([{ event: 'a' }], { end: () => ({ event: 'end' }) })).type.toBe<Readable>()
  expect(app.shutdown.stream).type.not.toBeCallableWith([], { end: 5 })
  expect(app.shutdown.stream).type.not.toBeCallableWith([5])
  expect(app.shutdown.on).type.not.toBeCallableWith('over', () => {})
  expect(teardown({})).type.toBe<Promise<gracefulShutdown.TeardownResult>>()
})

test('a request has its signal, a route has its config', () => {
  expect<FastifyRequest['shutdownSignal']>().type.toBe<AbortSignal>()
  app.get('/', { config: { shutdown: { exempt: true, category: 'slow' } } }, async request => request.shutdownSignal.aborted)
  // @ts-expect-error Type 'string' is not assignable to type
  app.get('/wrong', { config: { shutdown: { exempt: 'yes' } } }, async () => 'ok')
})

test('the test kit takes every app, and its stuck() is a resource', () => {
  expect(shutDown(app, 'why')).type.toBe<Promise<gracefulShutdown.ShutdownReport>>()
  expect(silentSocket(app)).type.toBe<Promise<Socket>>()
  expect(inFlight(app, { url: '/', method: 'POST' })).type.toBe<Promise<{ readonly response: Promise<LightMyRequestResponse> }>>()
  expect(shutDown).type.toBeCallableWith(Fastify({ http2: true }))
  expect(shutDown).type.toBeCallableWith(app.withTypeProvider<FastifyTypeProviderDefault>())
  expect(shutDown).type.not.toBeCallableWith({})
  expect(silentSocket).type.toBeCallableWith(Fastify({ https: {} }))
  expect(inFlight).type.toBeCallableWith(Fastify({ http2: true }), '/')
  expect(stuck()).type.toBeAssignableTo<gracefulShutdown.Resource>()
  expect(stuck).type.toBeCallableWith({ timeout: 100, dependsOn: ['postgres'], force () {} })
  expect(stuck).type.not.toBeCallableWith({ close () {} })
  expect(assertClean).type.toBeCallableWith({} as gracefulShutdown.ShutdownReport)
  expect(assertNothingLost).type.toBeCallableWith({} as gracefulShutdown.ShutdownReport)
  expect(assertOrder).type.toBeCallableWith({} as gracefulShutdown.ShutdownReport, ['worker', 'redis'])
})
