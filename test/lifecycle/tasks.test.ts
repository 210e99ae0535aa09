/** Background tasks in virtual time, and streams that end when draining begins. */
import { getEventListeners, once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { createTasks, type Tasks } from '../../lib/lifecycle/tasks'
import { endingStream } from '../../lib/lifecycle/ending-stream'
import { sse } from '../../lib/util/sse'
import type { StreamSource, TaskResult } from '../../types/index'
import { settled, virtualTime } from '../helpers/time'

/** Waits in virtual time. */
const wait = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const never = (): Promise<void> => new Promise(() => {})

function start (hasReached = (): boolean => false): { tasks: Tasks, abort: AbortController, ended: [TaskResult, Error | null][] } {
  const abort = new AbortController()
  const ended: [TaskResult, Error | null][] = []
  return { tasks: createTasks({ phase: 'running', signal: abort.signal, hasReached, elapsed: () => 0 }, (...end) => ended.push(end)), abort, ended }
}

t.test('tasks', t => {
  t.test('tasks are counted while they run, and by how they end', async t => {
    const time = virtualTime(t)
    const { tasks, ended } = start()
    tasks.add('good', wait(10))
    tasks.add('bad', wait(20).then(() => { throw new Error('no') }))
    t.equal(tasks.active, 2)
    t.same(tasks.pending(), ['task good', 'task bad'])
    await time.pass(10)
    t.same(tasks.pending(), ['task bad'])
    await time.pass(10)
    t.match(tasks, { active: 0, completed: 1, failed: 1, cancelled: 0, abandoned: 0 })
    t.match(ended, [[{ name: 'good', outcome: 'completed', durationMs: 10 }, null], [{ name: 'bad', outcome: 'failed', durationMs: 20 }, { message: 'no' }]])
    t.same(tasks.results(), [], 'a task that ends before draining begins is not in the report')
  })

  t.test('a task that comes too late rejects, and is never an unhandled rejection', async t => {
    const { tasks, ended } = start(() => true)
    void tasks.run('cron', () => { t.fail('it runs') })
    await t.rejects(tasks.run('awaited', () => {}), { code: 'FST_ERR_SHUTDOWN_LATE' })
    t.throws(() => tasks.add('promise', Promise.reject(new Error('no'))), { code: 'FST_ERR_SHUTDOWN_LATE' })
    // tap fails a test if there is an unhandled rejection.
    await new Promise(resolve => { setImmediate(resolve) })
    t.same({ ended, active: tasks.active, results: tasks.results() }, { ended: [], active: 0, results: [] })
  })

  t.test('the name of a task may be any value', async t => {
    const { tasks } = start()
    for (const name of [Symbol('mail'), Object.create(null), undefined, 1] as unknown[] as string[]) tasks.add(name, never())
    t.match(tasks.pending(), [/^task .*mail/, /^task .*object/, /^task undefined/, /^task 1/])
  })

  t.test('draining waits for counted work until its last call is over, and it is no task', async t => {
    const time = virtualTime(t)
    const { tasks, ended } = start()
    const work = tasks.counter('hook')
    work.begin()
    work.begin()
    t.match(tasks, { active: 0, completed: 0 })
    t.same(tasks.pending(), ['hook'])
    let outcome = ''
    const drained = tasks.drain(1_000).then(drained => { outcome = drained })
    await time.pass(100)
    work.end()
    await time.pass(100)
    t.equal(outcome, '')
    work.end()
    await time.pass(0)
    t.equal(outcome, 'clean')
    await drained
    t.same(tasks.pending(), [])
    t.same(ended, [], 'work that settles has no result')
  })

  t.test('counted work that exceeds the timeout is abandoned once, by its name', async t => {
    const time = virtualTime(t)
    const { tasks, abort, ended } = start()
    const [stuck, other] = [tasks.counter('stuck'), tasks.counter('other')]
    stuck.begin()
    other.begin()
    other.end()
    await time.pass(50)
    stuck.begin()
    abort.abort()
    t.equal(await time.until(tasks.drain(100)), 'failed')
    t.match(ended, [[{ name: 'stuck', outcome: 'abandoned', durationMs: 150 }, { code: 'FST_ERR_SHUTDOWN_TIMEOUT', message: /The stuck/ }]])
    t.equal(ended.length, 1)
    t.match(tasks, { active: 0, abandoned: 1 })
    stuck.end()
    stuck.end()
    t.same(tasks.pending(), [])
    await time.until(tasks.drain(100))
    t.equal(tasks.results().length, 1)
  })

  t.test('run() returns the result of its work, and rejects with its error', async t => {
    const { tasks, abort } = start()
    t.equal(await tasks.run('a', async () => 5), 5)
    t.equal(await tasks.run('a', () => 6), 6)
    const broken = new Error('broken')
    await t.rejects(tasks.run('b', () => { throw broken }), broken)
    let given: AbortSignal | undefined
    await tasks.run('c', signal => { given = signal })
    t.equal(given, abort.signal)
    await settled()
    t.match(tasks, { active: 0, completed: 3, failed: 1 })
  })

  t.test('a task whose promise is not awaited causes no unhandled rejection', async t => {
    const unhandled: unknown[] = []
    const listener = (error: unknown): void => { unhandled.push(error) }
    process.on('unhandledRejection', listener)
    t.teardown(() => process.off('unhandledRejection', listener))
    const { tasks } = start()
    void tasks.run('a', async () => { throw new Error('no') })
    tasks.add('b', Promise.reject(new Error('no')))
    await settled()
    await settled()
    t.same(unhandled, [])
    t.equal(tasks.failed, 2)
  })

  t.test('a value that is not a promise is over at once, and a thenable that throws has failed', async t => {
    const { tasks } = start()
    tasks.add('nothing', undefined as never)
    tasks.add('five', 5 as never)
    tasks.add('thenable', { then () { throw new Error('no') } } as never)
    await settled()
    t.match(tasks, { active: 0, completed: 2, failed: 1 })
  })

  t.test('a task counts as cancelled if it rejects because the signal was aborted', async t => {
    const { tasks, abort } = start()
    const aborted = async (signal: AbortSignal): Promise<void> => {
      await once(signal, 'abort')
      signal.throwIfAborted()
    }
    const results = [
      tasks.run('reason', aborted),
      tasks.run('AbortError', signal => aborted(signal).catch(() => { throw new DOMException('x', 'AbortError') })),
      tasks.run('other', signal => aborted(signal).catch(() => { throw new Error('other') }))
    ]
    await t.rejects(tasks.run('early', () => { throw new DOMException('x', 'AbortError') }))
    abort.abort(new Error('going'))
    await Promise.allSettled(results)
    await settled()
    t.match(tasks, { cancelled: 2, failed: 2 })
    t.match(tasks.results(), [{ name: 'reason', outcome: 'cancelled' }, { name: 'AbortError', outcome: 'cancelled' }, { name: 'other', outcome: 'failed' }])
  })

  t.test('drain() waits for all tasks, and not a moment longer', async t => {
    const time = virtualTime(t)
    const { tasks, abort } = start()
    tasks.add('a', wait(30))
    tasks.add('b', wait(50))
    abort.abort()
    const begin = time.now()
    t.equal(await time.until(tasks.drain(1_000)), 'clean')
    t.equal(time.now() - begin, 50)
    t.equal(time.armed(), 0)
    t.equal(await time.until(tasks.drain(1_000)), 'clean', 'no task at all')
    t.equal(time.now() - begin, 50)
  })

  t.test('drain() also waits for a task that is added meanwhile, even as the last task ends', async t => {
    const time = virtualTime(t)
    const { tasks, abort } = start()
    abort.abort()
    void (async () => {
      await tasks.run('first', () => wait(10))
      tasks.add('second', wait(20))
    })()
    t.equal(await time.until(tasks.drain(1_000)), 'clean')
    t.match(tasks.results(), [{ name: 'first', outcome: 'completed' }, { name: 'second', outcome: 'completed', durationMs: 20 }])
  })

  t.test('a task that is not over at the timeout is abandoned and named, once', async t => {
    const time = virtualTime(t)
    const { tasks, abort, ended } = start()
    abort.abort()
    const late = tasks.run('late', () => wait(150))
    tasks.add('stuck', never())
    const begin = time.now()
    t.equal(await time.until(tasks.drain(100)), 'failed')
    t.equal(time.now() - begin, 100)
    t.match(ended, [[{ name: 'late', outcome: 'abandoned' }, { code: 'FST_ERR_SHUTDOWN_TIMEOUT', message: "Task 'late' did not finish in 100 ms" }], [{ name: 'stuck', outcome: 'abandoned' }, Error]])
    await time.until(late)
    t.match(tasks, { active: 0, abandoned: 2, completed: 0 })
    t.equal(ended.length, 2, 'its late end is not reported')
    t.equal(time.armed(), 0)
  })

  t.test('drain() with no time left abandons at once', async t => {
    const time = virtualTime(t)
    const { tasks, abort } = start()
    abort.abort()
    tasks.add('stuck', never())
    t.equal(await tasks.drain(0), 'failed')
    t.equal(time.armed(), 0)
  })

  t.test('a task that fails while draining makes the drain fail, a task that is cancelled does not', async t => {
    const { tasks, abort } = start()
    tasks.add('early', Promise.reject(new Error('before draining')))
    await settled()
    abort.abort()
    void tasks.run('cancelled', signal => signal.throwIfAborted()).catch(() => {})
    t.equal(await tasks.drain(100), 'clean')
    tasks.add('failed', Promise.reject(new Error('no')))
    t.equal(await tasks.drain(100), 'failed')
  })

  t.end()
})

t.test('streams', t => {
  const ending = (source: unknown, end?: unknown, abort = new AbortController()): { stream: Readable, abort: AbortController } =>
    ({ stream: endingStream(source as StreamSource, (end === undefined ? {} : { end }) as object, abort.signal), abort })

  /** A source that yields the values that it is given, and records whether it was told to end. */
  function source (): { give (chunk: string): void, fail (error: Error): void, asked: number, returned: number, [Symbol.asyncIterator] (): AsyncIterator<string> } {
    let answer: ((result: Promise<IteratorResult<string>>) => void) | null = null
    const self = {
      asked: 0,
      returned: 0,
      give (chunk: string) { answer?.(Promise.resolve({ done: false, value: chunk })) },
      fail (error: Error) { answer?.(Promise.reject(error)) },
      [Symbol.asyncIterator]: () => ({
        next () {
          self.asked++
          return new Promise<IteratorResult<string>>(resolve => { answer = resolve })
        },
        return () {
          self.returned++
          return Promise.resolve({ done: true as const, value: undefined })
        }
      })
    }
    return self
  }

  t.test('a stream passes on all values of any source, and ends with it', async t => {
    async function * generated (): AsyncGenerator<string> { yield 'a'; yield ''; yield 'b' }
    const sources: [string, StreamSource][] = [
      ['array', ['a', 'b']], ['generator', (function * () { yield 'a'; yield 'b' })()], ['async generator', generated()], ['Readable', Readable.from(['a', 'b'])],
      ['ReadableStream', new Blob(['ab']).stream()], ['buffers', [Buffer.from('a'), new Uint8Array([98])]]
    ]
    for (const [name, each] of sources) {
      const { stream, abort } = ending(each, 'end')
      t.equal(await text(stream), 'ab', name)
      abort.abort()
    }
  })

  t.test('when draining begins a stream stops reading, sends the end marker and ends, even if its source has a value pending', async t => {
    const given = source()
    const { stream, abort } = ending(given, 'bye')
    const read = text(stream)
    await settled()
    given.give('a')
    await settled()
    t.equal(given.asked, 2)
    abort.abort()
    t.equal(await read, 'abye')
    t.equal(given.returned, 1, 'the source is told to end')
    given.give('too late')
    await settled()
    t.equal(given.asked, 2)
  })

  t.test('the end marker may be bytes, a function, or none', async t => {
    for (const [end, expected] of [[Buffer.from('bye'), 'bye'], [() => 'bye', 'bye'], [() => new Uint8Array([98]), 'b'], [undefined, '']] as const) {
      const { stream, abort } = ending(source(), end)
      const read = text(stream)
      abort.abort()
      t.equal(await read, expected)
    }
  })

  t.test('a stream that is created while draining sends only its end marker', async t => {
    const abort = new AbortController()
    abort.abort()
    const given = source()
    t.equal(await text(ending(given, 'bye', abort).stream), 'bye')
    t.match(given, { asked: 0, returned: 1 })
  })

  t.test('a client that has left, or is slow, does not keep the source open', async t => {
    const gone = source()
    const { stream, abort } = ending(gone, 'bye')
    stream.resume()
    await settled()
    stream.destroy()
    await once(stream, 'close')
    t.equal(gone.returned, 1)
    abort.abort()
    await settled()
    t.equal(gone.returned, 1)
    const slow = source()
    const unread = ending(slow, 'bye')
    unread.stream.read(0)
    unread.abort.abort()
    slow.give('too late')
    await settled()
    t.equal(slow.returned, 1)
    t.equal(await text(unread.stream), 'bye', 'the bytes that were sent can still be read')
  })

  t.test('a stream whose source is over sends no end marker, even if it has not been read', async t => {
    const { stream, abort } = ending(['a'], 'bye')
    stream.read(0)
    await settled()
    abort.abort()
    t.equal(await text(stream), 'a')
  })

  t.test('a stream as source is released at once, even if its next chunk never comes', async t => {
    const readable = new Readable({ read () {} })
    let cancelled = false
    const web = new ReadableStream<string>({ cancel () { cancelled = true } })
    for (const each of [readable, web]) {
      const { stream, abort } = ending(each, 'bye')
      const read = text(stream)
      await settled()
      abort.abort()
      t.equal(await read, 'bye')
    }
    t.ok(readable.destroyed)
    t.ok(cancelled)
  })

  t.test('a source that fails fails the stream, and causes no other error', async t => {
    const given = source()
    const failing = ending(given)
    const read = text(failing.stream)
    await settled()
    given.fail(new Error('no'))
    await t.rejects(read, { message: 'no' })
    await t.rejects(text(ending((function * () { yield 'a'; throw new Error('synchronous') })()).stream), { message: 'synchronous' })
    await t.rejects(text(ending({ [Symbol.asyncIterator]: () => ({ next: async () => undefined }) }).stream), TypeError)
    const late = source()
    const { stream, abort } = ending(late, 'bye')
    const rest = text(stream)
    await settled()
    abort.abort()
    late.fail(new Error('after the end'))
    t.equal(await rest, 'bye')
  })

  t.test('an end marker that throws, or a source that cannot return, causes no uncaught exception', async t => {
    const uncaught: unknown[] = []
    const listener = (error: unknown): void => { uncaught.push(error) }
    process.on('uncaughtException', listener)
    t.teardown(() => process.off('uncaughtException', listener))
    const broken = ending(source(), () => { throw new Error('no marker') })
    const failing = t.rejects(text(broken.stream), { message: 'no marker' })
    broken.abort.abort()
    await failing
    for (const wrong of [() => { throw new Error('no') }, () => Promise.reject(new Error('no'))]) {
      const { stream, abort } = ending({ [Symbol.asyncIterator]: () => ({ next: never, return: wrong }) }, 'bye')
      const read = text(stream)
      abort.abort()
      t.equal(await read, 'bye')
    }
    await settled()
    await settled()
    t.same(uncaught, [])
  })

  t.test('a stream leaves no listener on the signal', async t => {
    const abort = new AbortController()
    await text(ending(['a'], 'end', abort).stream)
    const { stream } = ending(source(), 'end', abort)
    t.equal(getEventListeners(abort.signal, 'abort').length, 1)
    await once(stream.destroy(), 'close')
    t.equal(getEventListeners(abort.signal, 'abort').length, 0)
  })

  t.test('a value that is not a source, or not an end marker, throws at once', async t => {
    for (const [wrong, got] of [['abc', "'abc' (string)"], [5, '5 (number)'], [null, 'null (null)'], [{}, '{} (object)'], [Buffer.from('a'), '(object)'], [undefined, 'undefined (undefined)']] as const) {
      t.throws(() => ending(wrong), { code: 'FST_ERR_SHUTDOWN_OPTION', message: got })
    }
    for (const wrong of [5, null, true]) t.throws(() => ending(['a'], wrong), { code: 'FST_ERR_SHUTDOWN_OPTION', message: "Expected the stream's 'end' to be a string, a Buffer, an object or a function, got " })
  })

  t.test('objects pass through unchanged, and the end marker may be one', async t => {
    const values = [{ event: 'a' }, 'text', Buffer.from('bytes'), { event: 'b' }]
    for (const end of [{ event: 'end' }, () => ({ event: 'end' })]) {
      const read: unknown[] = []
      const { stream, abort } = ending((async function * () {
        yield * values
        await never()
      })(), end)
      for await (const value of stream) {
        read.push(value)
        if (read.length === values.length) abort.abort()
      }
      t.same(read, [...values, { event: 'end' }])
    }
  })

  t.test('null and undefined are not accepted as values', async t => {
    for (const value of [null, undefined]) {
      const { stream } = ending([value])
      await t.rejects(text(stream), { code: 'FST_ERR_SHUTDOWN_OPTION', message: /to send a value/ })
    }
  })

  t.test('an object for a destination that takes only bytes is an error of the stream', async t => {
    for (const objects of [[{}], null]) {
      const { stream, abort } = ending(objects ?? source(), {})
      const failed = once(stream, 'error')
      stream.pipe(new PassThrough())
      await settled()
      if (objects === null) abort.abort()
      t.match(await failed.catch(error => [error]), [{ code: 'FST_ERR_SHUTDOWN_OPTION', message: /strings or Buffers/ }])
    }
    const late = ending(source(), {})
    late.abort.abort()
    const failed = once(late.stream, 'error')
    late.stream.pipe(new PassThrough())
    t.match(await failed.catch(error => [error]), [{ code: 'FST_ERR_SHUTDOWN_OPTION' }], 'the stream had ended before')
    const taken = ending([{ a: 1 }]).stream.pipe(new PassThrough({ objectMode: true }))
    t.same(await taken.toArray(), [{ a: 1 }])
  })

  t.end()
})

t.test('sse() builds the end of server-sent events', async t => {
  t.equal(sse(), 'event: end\nretry: 1000\ndata: {"type":"end","reason":"shutdown"}\n\n')
  t.equal(sse({ event: 'bye', data: 'two\nlines', retry: 0 }), 'event: bye\nretry: 0\ndata: "two\\nlines"\n\n')
  t.equal(sse({ data: null }), 'event: end\nretry: 1000\ndata: null\n\n')
  for (const event of ['a\nb', 'a\rb', 'a\0', 5]) t.throws(() => sse({ event: event as string }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: "Expected 'event' to be a single line, got " })
  for (const retry of [-1, 1.5, NaN, Infinity, '1']) t.throws(() => sse({ retry: retry as number }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: "Expected 'retry' to be a whole number of milliseconds >= 0, got " })
  t.throws(() => sse({ data: () => {} }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: "Expected 'data' to be a value that JSON can represent, got data (function)" })
})
