/**
 * Our own symbols: properties that we add to objects of Node and Fastify. A Map with these objects as keys costs up to
 * a third of the CPU time under load, because of garbage collection: see `util/linked-list.ts`.
 */

/** On Node's request: its entry in the table of requests in flight. */
export const kEntry = Symbol('fastify-shutdown.entry')
/** On Node's request: Fastify's reply, while the request is on the fast path. */
export const kReply = Symbol('fastify-shutdown.reply')
/** On Node's request: what is known about the end of its handler. */
export const kHandler = Symbol('fastify-shutdown.handler')
/** On Node's request: the promise of the error handler that was called last. */
export const kErrorHandler = Symbol('fastify-shutdown.error-handler')
/** On Node's request: the promise of the hook before the answer that was called last. */
export const kHook = Symbol('fastify-shutdown.hook')
/** On Node's request: its detached handler, if the client has left. */
export const kDetached = Symbol('fastify-shutdown.detached')
/** On the config of a route: its handler and its hooks are observed. */
export const kObserved = Symbol('fastify-shutdown.observed')
/** On a server: the function by which the current app leaves it to the next one. */
export const kRelease = Symbol('fastify-shutdown.release')
/**
 * On a plain server: `attach` has been called for it. All copies of this package use the same symbol.
 */
export const kAttached = Symbol.for('fastify-shutdown.attached')
/** On a socket: its connection. */
export const kConnection = Symbol('fastify-shutdown.connection')
/** On a socket: the answer that closes the connection. */
export const kLastAnswer = Symbol('fastify-shutdown.last-answer')

/**
 * On the error of a late `task()`. A timer that starts tasks often does not handle their rejections, and this one is
 * not a crash. All copies of this package in a process use the same symbol.
 */
export const kLateTask = Symbol.for('fastify-shutdown.late-task')

/**
 * On `app.shutdown`: what the test kit uses. A test may load the plugin and the test kit as two copies of this package,
 * so all copies use the same symbol.
 */
export const kTestKit = Symbol.for('fastify-shutdown.test-kit')
