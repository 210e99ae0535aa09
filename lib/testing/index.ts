/**
 * The test kit, `fastify-shutdown/testing`: drives a shutdown in a test, prepares what a shutdown has to handle, and
 * checks the report. It uses no test runner, so it works under node:test, tap, vitest and jest.
 */
export type { AnyApp } from './any-app'
export { assertClean, assertNothingLost, assertOrder } from './assertions'
export { inFlight, type RequestInFlight } from './in-flight'
export { shutDown } from './shut-down'
export { silentSocket } from './silent-socket'
export { stuck } from './stuck'
