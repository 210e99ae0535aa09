/**
 * What every adapter promises, for whichever client. Each adapter runs these tests with a fixture of its own, over a real
 * server in four states: healthy and idle, busy, frozen, dead.
 *
 * "Closed" means that every socket of the client is destroyed and that the client itself says so. An adapter whose `close`
 * or `force` does nothing fails.
 */
import type { Socket } from 'node:net'
import type { Test } from 'tap'
import type { Resource } from '../../types/index'
import { adapterFor } from '../../lib/resources/adapters/index'
import { sleep } from '../../lib/util/time'
import { recordSockets } from './sockets'

/** A client of a server, and work for the client. */
export interface Opened {
  readonly client: object
  /** The client as a resource. @default the resource that the adapter of its kind makes */
  readonly resource?: Resource
  /** Begins something that takes 50 to 500 ms on a healthy server. @returns its result, once it is under way */
  work (): Promise<{ readonly result: Promise<unknown> }>
  /** What `result` resolves to. @default 'done' */
  readonly expected?: unknown
  /** Whether the client itself says that it is closed. */
  isClosed (): boolean
  /** Whether `close` keeps the sockets, because they belong to another client. @default false */
  readonly keepsSockets?: boolean
  /** Whether `force` after `close` keeps the socket to a frozen server. It must not keep the process alive. @default false */
  readonly keepsFrozenSocket?: boolean
  /** Closes the client as its owner does, without the adapter. */
  end (): unknown
  /** Closes what else the test has opened. */
  cleanUp? (): unknown
}

/** A client of a server that may be harmed. */
export interface OpenedOnOwnServer extends Opened {
  freeze (): void
  thaw (): void
  kill (): Promise<void>
  stop (): Promise<void>
}

/** One adapter's part of the contract. */
export interface Fixture {
  readonly name: string
  /** Opens a client of a healthy server. */
  open (): Promise<Opened>
  /** Opens a client of a server that may be harmed. */
  openOnOwnServer? (): Promise<OpenedOnOwnServer>
  /** Whether work can be under way when the server freezes. @default true */
  readonly works?: boolean
  /** Whether `force` rejects the work under way; a job is not rejected, it ends by its signal. @default true */
  readonly rejects?: boolean
}

/** After this time without a result a promise counts as hanging, in milliseconds. */
const hanging = 150
/** Longest time of `force`, and of `close` on a dead server, in milliseconds. */
const longest = 5_000
/** Longest time until a destroyed client's sockets are gone, in milliseconds. */
const socketTimeout = 500

/** Runs the contract's tests for one adapter. */
export async function resourceContract (t: Test, fixture: Fixture): Promise<void> {
  const { works = true, rejects = true } = fixture

  await t.test(`${fixture.name}: close closes an idle client, and a second close or force changes nothing`, async t => {
    const { resource, assertClosed } = await open(t, fixture.open)
    await resource.pause?.()
    await close(resource)
    await assertClosed('after close')
    await close(resource)
    await resource.force?.()
    await assertClosed('after all')
  })

  await t.test(`${fixture.name}: force alone closes the client too, and close after it resolves`, async t => {
    const closed = await open(t, fixture.open)
    await inTime(close(closed.resource))
    await closed.assertClosed('after close')
    const forced = await open(t, fixture.open)
    await inTime(forced.resource.force?.())
    await forced.assertClosed('after force', { forced: true })
    await inTime(close(forced.resource))
  })

  await t.test(`${fixture.name}: close waits for a client that its owner is closing, and accepts one that its owner has closed`, async t => {
    const closing = await open(t, fixture.open)
    // A driver may reject its work when its owner closes it.
    if (works) (await closing.opened.work()).result.catch(() => {})
    let isEnded = false
    const ended = Promise.resolve(closing.opened.end()).catch(() => {}).finally(() => { isEnded = true })
    await inTime(close(closing.resource))
    // Microtasks only: the end of a connection takes a turn of the event loop, so a `close` that does nothing comes too early.
    for (let i = 0; i < 50; i++) await undefined
    t.equal(isEnded, true, 'close does not resolve before the owner\'s call')
    await inTime(ended)
    await closing.assertClosed('after both')
    const closed = await open(t, fixture.open)
    await closed.opened.end()
    await inTime(close(closed.resource))
    await closed.assertClosed('after its owner has closed it')
  })

  await t.test(`${fixture.name}: close waits until the client has finished its work`, async t => {
    const { opened, resource, assertClosed } = await open(t, fixture.open)
    const order: string[] = []
    const { result } = await opened.work()
    const working = result.then(value => { order.push('work'); return value })
    await resource.pause?.()
    await close(resource).then(() => { order.push('closed') })
    t.same(await working, opened.expected ?? 'done')
    t.same(order, ['work', 'closed'])
    await assertClosed('after close')
  })

  const { openOnOwnServer } = fixture
  if (openOnOwnServer === undefined) return

  await t.test(`${fixture.name}: on a frozen server close waits for the work, and force closes at once and settles the work`, async t => {
    const { opened, resource, assertClosed } = await open(t, openOnOwnServer)
    t.teardown(async () => { opened.thaw(); await opened.stop() })
    let outcome: Promise<unknown> = Promise.resolve('rejected')
    if (works) {
      const { result } = await opened.work()
      outcome = result.then(() => 'finished', () => 'rejected')
    }
    await resource.pause?.()
    opened.freeze()
    const closing = close(resource)
    if (works) t.equal(await state(closing, hanging), 'pending', 'close waits for the work')
    await inTime(resource.force?.())
    await inTime(closing)
    const end = await inTime(outcome)
    if (works && rejects) t.equal(end, 'rejected', 'the work is rejected')
    await assertClosed('after force', { forced: true, frozen: true })
  })

  await t.test(`${fixture.name}: on a dead server close settles soon, with or without force, and so does the work`, async t => {
    const { opened, resource, assertClosed } = await open(t, openOnOwnServer)
    t.teardown(() => opened.stop())
    const { result } = works ? await opened.work() : { result: Promise.resolve() }
    const outcome = result.then(() => 'finished', () => 'rejected')
    // As in production: the shutdown begins, then the server dies too.
    await resource.pause?.()
    await opened.kill()
    const closing = close(resource)
    if (await state(closing, hanging) === 'pending') await inTime(resource.force?.())
    await inTime(closing)
    await inTime(outcome)
    await assertClosed('after close', { forced: true })
  })
}

interface Subject<O extends Opened> {
  readonly opened: O
  readonly resource: Resource
  /** Allows some time, because a socket is destroyed after its last byte is written, and the client notices it later. */
  assertClosed (when: string, options?: { readonly forced?: boolean, readonly frozen?: boolean }): Promise<void>
}

async function open<O extends Opened> (t: Test, openClient: () => Promise<O>): Promise<Subject<O>> {
  const openSockets = recordSockets(t)
  const opened = await openClient()
  t.teardown(() => opened.cleanUp?.())
  return {
    opened,
    resource: opened.resource ?? adapterFor(opened.client),
    async assertClosed (when, { forced = false, frozen = false } = {}) {
      const keepsSockets = (opened.keepsSockets === true && !forced) || (opened.keepsFrozenSocket === true && frozen)
      const isLeft = (): boolean => !opened.isClosed() || (!keepsSockets && openSockets().length > 0)
      for (let waited = 0; waited < socketTimeout && isLeft(); waited += 10) await sleep(10)
      t.equal(opened.isClosed(), true, `the client is closed ${when}`)
      if (!keepsSockets) t.equal(openSockets().length, 0, `no socket is left ${when}`)
      else if (frozen) t.ok(openSockets().every(socket => !hasRef(socket)), `no socket keeps the process alive ${when}`)
    }
  }
}

/** Whether a socket keeps the process alive. */
function hasRef (socket: Socket): boolean {
  return (socket as Socket & { readonly _handle?: { hasRef (): boolean } | null })._handle?.hasRef() === true
}

/** Closes a resource with a signal that never aborts. */
export async function close (resource: Resource, signal: AbortSignal = new AbortController().signal): Promise<void> {
  await resource.close?.(signal)
}

/** What a promise is after `ms` milliseconds. */
export async function state (promise: PromiseLike<unknown>, ms: number): Promise<'fulfilled' | 'rejected' | 'pending'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'pending'>(resolve => { timer = setTimeout(resolve, ms, 'pending') })
  try {
    return await Promise.race([promise.then(() => 'fulfilled' as const, () => 'rejected' as const), late])
  } finally {
    clearTimeout(timer)
  }
}

/** Waits for a promise, and throws if it takes longer than anything here may take. */
export async function inTime<T> (promise: T | PromiseLike<T>, ms = longest): Promise<T> {
  const bounded = Promise.resolve(promise)
  if (await state(bounded, ms) === 'pending') throw new Error(`Not settled after ${ms} ms`)
  return await bounded
}
