/**
 * What every adapter promises, whichever client it is for. Each runs it with a fixture of its own, over a real server in
 * four states: healthy and idle, busy, frozen, dead.
 */
import type { Test } from 'tap'
import type { Resource } from '../../types/index'
import { adapterFor } from '../../lib/resources/adapters/index'

/** A client on a server, and work for it. */
export interface Opened {
  readonly client: object
  /** The client as a resource, where it is not the one that its kind's adapter makes. */
  readonly resource?: Resource
  /** Begin something that takes a while, on a healthy server 50 to 500 ms. @returns its result, once it is surely under way */
  work (): Promise<{ readonly result: Promise<unknown> }>
  /** What `work` comes to. @default 'done' */
  readonly expected?: unknown
  /** Close the client as its owner would, without its adapter. */
  end? (): unknown
  /** Whatever the client leaves behind. */
  tidy? (): unknown
}

export interface Faulty extends Opened {
  freeze (): void
  thaw (): void
  kill (): Promise<void>
  stop (): Promise<void>
}

export interface Fixture {
  readonly name: string
  /** A client of a healthy server. */
  open (): Promise<Opened>
  /** A client of a server that may be harmed. */
  openFaulty? (): Promise<Faulty>
  /** Whether work can be under way when the server freezes. @default true */
  readonly works?: boolean
  /** For those that nothing can force: their `close` is what ends, or is abandoned. @default true */
  readonly forcible?: boolean
  /** Whether work that `force` cut short is rejected; a job is not, it runs on or ends by its signal. @default true */
  readonly rejects?: boolean
}

/** How long something must not have happened to count as hanging, in milliseconds. */
const hanging = 150
/** How long `force`, and a `close` of something dead, may take, in milliseconds. */
const bound = 5_000

export async function resourceContract (t: Test, fixture: Fixture): Promise<void> {
  const { works = true, forcible = true, rejects = true } = fixture

  await t.test(`${fixture.name}: an idle client closes, and closing it twice is closing it once`, async t => {
    const opened = await fixture.open()
    t.teardown(() => opened.tidy?.())
    const resource = resourceOf(opened)
    await resource.pause?.()
    await close(resource)
    await close(resource)
    await resource.force?.()
    t.pass('closed')
  })

  await t.test(`${fixture.name}: what has been forced is closed`, async t => {
    const opened = await fixture.open()
    t.teardown(() => opened.tidy?.())
    const resource = resourceOf(opened)
    if (!forcible) { await close(resource); t.pass('nothing forces it'); return }
    await inTime(resource.force?.())
    await inTime(close(resource))
    t.pass('forced')
  })

  await t.test(`${fixture.name}: a client that its owner has closed already is a success`, async t => {
    const opened = await fixture.open()
    t.teardown(() => opened.tidy?.())
    const resource = resourceOf(opened)
    await opened.end?.()
    await close(resource)
    t.pass('closed')
  })

  await t.test(`${fixture.name}: a busy client finishes its work before it closes`, async t => {
    const opened = await fixture.open()
    t.teardown(() => opened.tidy?.())
    const resource = resourceOf(opened)
    const order: string[] = []
    const { result } = await opened.work()
    const working = result.then(value => { order.push('work'); return value })
    await resource.pause?.()
    await close(resource).then(() => { order.push('closed') })
    t.same(await working, opened.expected ?? 'done')
    t.same(order, ['work', 'closed'])
  })

  const { openFaulty } = fixture
  if (openFaulty === undefined) return

  await t.test(`${fixture.name}: on a frozen server close hangs, force ends it at once, and nobody is left waiting`, async t => {
    const opened = await openFaulty()
    t.teardown(async () => { opened.thaw(); await opened.stop(); await opened.tidy?.() })
    const resource = resourceOf(opened)
    let outcome: Promise<unknown> = Promise.resolve('rejected')
    if (works) {
      const { result } = await opened.work()
      outcome = result.then(() => 'finished', () => 'rejected')
    }
    await resource.pause?.()
    opened.freeze()
    const closing = close(resource)
    if (works) t.equal(await state(closing, hanging), 'pending', 'close waits for what is under way')
    if (forcible) await inTime(resource.force?.())
    await inTime(closing)
    if (works) {
      const end = await inTime(outcome)
      if (rejects) t.equal(end, 'rejected', 'its work is rejected')
    }
    t.pass('nothing hangs')
  })

  await t.test(`${fixture.name}: on a dead server it is over soon, forced or not`, async t => {
    const opened = await openFaulty()
    t.teardown(async () => { await opened.stop(); await opened.tidy?.() })
    const resource = resourceOf(opened)
    const { result } = works ? await opened.work() : { result: Promise.resolve() }
    const outcome = result.then(() => 'finished', () => 'rejected')
    // As in life: the shutdown begins, then the server goes too.
    await resource.pause?.()
    await opened.kill()
    const closing = close(resource)
    if (await state(closing, hanging) === 'pending') await inTime(resource.force?.())
    await inTime(closing)
    await inTime(outcome)
    t.pass('nothing hangs')
  })

  function resourceOf (opened: Opened): Resource {
    return opened.resource ?? adapterFor(opened.client)
  }
}

export async function close (resource: Resource, signal: AbortSignal = new AbortController().signal): Promise<void> {
  await resource.close?.(signal)
}

/** What has become of a promise after so many milliseconds. */
export async function state (promise: PromiseLike<unknown>, ms: number): Promise<'fulfilled' | 'rejected' | 'pending'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'pending'>(resolve => { timer = setTimeout(resolve, ms, 'pending') })
  try {
    return await Promise.race([promise.then(() => 'fulfilled' as const, () => 'rejected' as const), late])
  } finally {
    clearTimeout(timer)
  }
}

/** The promise, or an error when it takes longer than anything here may take. */
export async function inTime<T> (promise: T | PromiseLike<T>, ms = bound): Promise<T> {
  const settled = Promise.resolve(promise)
  if (await state(settled, ms) === 'pending') throw new Error(`Not settled after ${ms} ms`)
  return await settled
}
