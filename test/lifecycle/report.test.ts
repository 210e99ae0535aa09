/** The report as data: its JSON schema, its errors in JSON, its samples, and its line in the log. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import t from 'tap'
import ts from 'typescript'
import { reportLine } from '../../lib/exporters/report-line'
import { createInFlightSamples } from '../../lib/lifecycle/in-flight-samples'
import { teardown } from '../../lib/resources/teardown'
import type { ShutdownReport } from '../../types/index'
import { connect, eventually, get } from '../helpers/client'
import { serve, serveHeld } from '../helpers/serve'
import { virtualTime } from '../helpers/time'

interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
}

const root = join(__dirname, '../..')
const schema = JSON.parse(readFileSync(join(root, 'types/report.schema.json'), 'utf8')) as Schema & { definitions: Record<string, Schema> }
const validate = new Ajv({ allErrors: true, allowUnionTypes: true, formats: { 'date-time': true } }).compile<ShutdownReport>(schema)

/** The report as JSON, which matches the schema. */
function asJson (t: { ok: typeof import('tap').ok }, report: ShutdownReport): any { // any: each test looks into its own shape
  const json = JSON.parse(JSON.stringify(report))
  t.ok(validate(json), JSON.stringify(validate.errors))
  return json
}

t.test('the schema and the types have the same fields, values and optional fields', async t => {
  const file = join(root, 'types/index.ts')
  const program = ts.createProgram([file], { strict: true, exactOptionalPropertyTypes: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'], types: ['node'] })
  const checker = program.getTypeChecker()
  const symbol = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)!)!).find(({ name }) => name === 'ShutdownReport')!

  /** Both sides in one form: the values of a union in order, `?` behind an optional field, `error` for an Error. */
  const shapeOfType = (type: ts.Type): unknown => {
    if (type.isUnion()) return type.types.map(shapeOfType).flat().sort()
    if (type.flags & ts.TypeFlags.Undefined) return []
    if (type.isLiteral()) return [JSON.stringify(type.value)]
    if (type.flags & ts.TypeFlags.Null) return ['null']
    if (type.flags & (ts.TypeFlags.String | ts.TypeFlags.Number)) return [checker.typeToString(type)]
    if (type.symbol?.name === 'Error') return ['error']
    if (checker.isArrayType(type)) return { items: shapeOfType(checker.getTypeArguments(type as ts.TypeReference)[0]!) }
    const fields = checker.getPropertiesOfType(type)
    if (fields.length === 0) return ['object']
    return Object.fromEntries(fields.map(field => [
      field.name + (field.flags & ts.SymbolFlags.Optional ? '?' : ''), shapeOfType(checker.getTypeOfSymbol(field))
    ]))
  }
  const shapeOfSchema = (given: Schema): unknown => {
    if (given.$ref === '#/definitions/error') return ['error']
    if (given.$ref !== undefined) return shapeOfSchema(schema.definitions[given.$ref.split('/').at(-1)!]!)
    if (given.const !== undefined) return [JSON.stringify(given.const)]
    if (given.enum !== undefined) return given.enum.map(value => JSON.stringify(value)).sort()
    if (given.anyOf !== undefined) return given.anyOf.map(shapeOfSchema).flat().sort()
    if (given.items !== undefined) return { items: shapeOfSchema(given.items) }
    if (given.properties !== undefined) {
      return Object.fromEntries(Object.entries(given.properties).map(([name, field]) => [name + (given.required!.includes(name) ? '' : '?'), shapeOfSchema(field)]))
    }
    return [given.type!].flat().map(name => name === 'integer' ? 'number' : name).sort()
  }
  t.strictSame(shapeOfSchema(schema), shapeOfType(checker.getDeclaredTypeOfSymbol(symbol)))
})

t.test('a report of each outcome matches the schema', async t => {
  const logged: any[] = [] // any: the lines of pino
  const fastify = { logger: { stream: { write (line: string) { logged.push(JSON.parse(line)) } } } }
  const timeouts = { requests: 100, streams: 100, tasks: 100, resources: 100, total: 2_000 }
  const lastLine = (): ShutdownReport => logged.findLast(({ msg, shutdown }) => /^shutdown: (clean|forced|failed) in/.test(msg) && shutdown !== undefined).shutdown

  t.test('clean, with a request, a task, a hook and resources', async t => {
    const { app, holder, release, report } = await serveHeld(t, {
      fastify,
      options: { resources: { db: { close () {} }, worker: { dependsOn: ['db'], close () {}, detail: () => ({ jobs: 3 }) } } },
      routes: app => { app.addHook('preClose', async () => {}) }
    })
    app.shutdown.waitUntil(app.shutdown.task('mail', signal => new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve()) })))
    const closed = app.shutdown.start('a deploy')
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    release()
    await holder.answer()
    await closed
    const json = asJson(t, await report)
    t.match(json, { schemaVersion: 1, outcome: 'clean', exitCode: 0, resources: [{ name: 'db', waitedFor: ['worker'] }, { detail: { jobs: 3 } }], hooks: [{ hook: 'preClose', name: 'app' }], errors: [] })
    t.ok(json.tasks[0].startedMs <= 0, 'the task began before the shutdown')
    t.match(json.inFlight[0], { requests: 1 })
    t.match(json.inFlight.at(-1), { requests: 0 })
    const [draining, cleaning] = json.phases
    t.ok(json.resources[0].startedMs >= cleaning.startedMs && json.hooks[0].startedMs >= cleaning.startedMs, 'all times count from the beginning of the shutdown')
    t.ok(draining.durationMs > 0)
    t.ok(validate(lastLine()), JSON.stringify(validate.errors))
  })

  t.test('forced, because a request is cut', async t => {
    const { app, report } = await serveHeld(t, { fastify, options: { timeouts, track: 'detail' } })
    await app.close()
    const json = asJson(t, await report)
    t.match(json, { outcome: 'forced', requests: { cut: [{ method: 'GET', route: '/hold', waitsFor: 'app' }] } })
    t.ok(validate(lastLine()), JSON.stringify(validate.errors))
  })

  t.test('failed: an error is its name, message and code, and no other field', async t => {
    class LeakyError extends Error {
      override name = 'LeakyError'
      code = 'ELEAK'
      password = 'secret'
      toJSON (): object { return { password: this.password } }
    }
    const { app, report } = await serve(t, {
      fastify,
      options: {
        timeouts,
        resources: {
          leaky: { close () { throw new LeakyError('no') } },
          stuck: { close: () => new Promise(() => {}), detail: () => ({ big: 7n }) },
          text: { close () {}, detail: () => ({ toJSON: () => 'text' }) }
        }
      },
      routes: app => { app.addHook('onClose', async () => { throw new LeakyError('hook') }) }
    })
    app.shutdown.task('job', async () => { throw new LeakyError('job') }).catch(() => {})
    app.shutdown.waitUntil(new Promise((_resolve, reject) => { app.shutdown.on('draining', () => reject(new LeakyError('task'))) }), { name: 'late' })
    await app.close().catch(() => {})
    const json = asJson(t, await report)
    t.strictSame(json.resources[0].error, { name: 'LeakyError', message: 'no', code: 'ELEAK' })
    for (const name of ['stuck', 'text']) {
      t.notOk('detail' in json.resources.find((resource: { name: string }) => resource.name === name), 'a detail that is no object in JSON is left out')
    }
    t.strictSame(json.hooks[0].error, { name: 'LeakyError', message: 'hook', code: 'ELEAK' })
    t.strictSame(json.errors.map(({ message, code }: { message: string, code: string }) => [message, code]), [
      ["Task 'late' failed: task", 'ELEAK'],
      ["Resource 'leaky' failed: no", 'ELEAK'],
      ["Resource 'stuck' was abandoned: Resource 'stuck' did not finish in 100 ms", 'FST_ERR_SHUTDOWN_TIMEOUT'],
      ["The onClose hook of 'app' failed: hook", 'ELEAK']
    ])
    t.notMatch(JSON.stringify(json), 'secret')
    t.notMatch(JSON.stringify(lastLine()), 'secret')
    t.ok(validate(lastLine()), JSON.stringify(validate.errors))
    t.equal((await report).resources[0]?.error?.constructor, LeakyError, 'in the report, it is still the error')
  })
})

t.test('the error of a teardown without a server is JSON, too', async t => {
  const { resources } = await teardown({ db: { async close () { throw new TypeError('no') } } })
  t.strictSame(JSON.parse(JSON.stringify(resources))[0].error, { name: 'TypeError', message: 'no' })
})

t.test('samples are taken when something has changed, at most 200 over any length', async t => {
  const time = virtualTime(t)
  const current = { requests: 3, streams: 0, webSockets: 1 }
  const began = time.now()
  const samples = createInFlightSamples(() => current, () => time.now() - began)
  samples.begin()
  await time.pass(1_000)
  t.strictSame(samples.all, [{ atMs: 0, requests: 3, streams: 0, webSockets: 1 }])
  for (let i = 0; i < 60_000 / 25; i++) {
    current.requests++
    await time.pass(25)
  }
  const { all } = samples
  t.ok(all.length <= 200 && all.length >= 100, `${all.length} samples`)
  t.equal(all[0]!.atMs, 0)
  t.ok(all.every(({ atMs }, i) => i === 0 || atMs > all[i - 1]!.atMs))
  t.ok(all.at(-1)!.atMs > 59_000, `the last one at ${all.at(-1)!.atMs} ms`)
  samples.end()
  t.equal(time.armed(), 0)
})

t.test('the last log line is for a person', async t => {
  const text = fc.string({ unit: 'binary', maxLength: 200 })
  const count = fc.nat()
  const error = fc.record({ name: text, message: text })
  const report = fc.record({
    outcome: fc.constantFrom('clean', 'forced', 'failed'),
    durationMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
    requests: fc.record({ completed: count, rejected: count, aborted: count, cut: fc.array(fc.record({ method: fc.constant('GET'), route: text }), { maxLength: 30 }) }),
    streams: fc.record({ ended: count, cut: count }),
    webSockets: fc.record({ closed: count, terminated: count }),
    http2Sessions: fc.record({ closed: count, destroyed: count }),
    tasks: fc.array(fc.record({ name: text, outcome: fc.constantFrom('completed', 'failed', 'abandoned') })),
    resources: fc.array(fc.record({ name: text, outcome: fc.constantFrom('closed', 'forced', 'failed', 'abandoned') })),
    hooks: fc.array(fc.record({ hook: fc.constantFrom('onClose', 'preClose'), name: text, outcome: fc.constantFrom('closed', 'failed') })),
    errors: fc.array(error)
  }) as unknown as fc.Arbitrary<ShutdownReport>

  t.test('it has less than 300 characters and no line break, whatever happened', async () => {
    fc.assert(fc.property(report, given => {
      const line = reportLine(given)
      // eslint-disable-next-line no-control-regex
      return line.length < 300 && line.startsWith(`shutdown: ${given.outcome} in `) && !/[\u0000-\u001f\u007f]/.test(line)
    }))
  })

  t.test('it does not cut a character into halves', async t => {
    const none = { requests: { completed: 0, rejected: 0, aborted: 0, cut: [] }, streams: {}, webSockets: {}, http2Sessions: {}, tasks: [], hooks: [], errors: [] }
    const line = (name: string): string => reportLine({ ...none, resources: [{ name, outcome: 'failed' }] } as unknown as ShutdownReport)
    for (const name of ['💥'.repeat(50), `a${'💥'.repeat(50)}`]) t.match(line(name), /; failed a?(?:💥){19}…$/u, name)
  })

  t.test('it names what was cut, forced, failed and abandoned', async t => {
    const { app, report } = await serveHeld(t, {
      options: {
        timeouts: { requests: 50, streams: 50, tasks: 50, resources: 100, total: 2_000 },
        resources: {
          redis: { close: () => new Promise(() => {}), force () {} },
          kafka: { close: () => new Promise(() => {}), force () {} },
          postgres: { async close () { throw new Error('no') } }
        }
      }
    })
    app.shutdown.waitUntil(new Promise(() => {}), { name: 'mail' })
    const other = await connect(app)
    other.send(get('/none'))
    await other.answer()
    await app.close().catch(() => {})
    t.match(reportLine(await report), /^shutdown: failed in \d+ ms; forced redis, kafka; failed postgres; abandoned task mail; cut GET \/hold$/)
  })

  t.test('it names an error that is not of a resource, a hook or a task, also if a resource did not pause', async t => {
    const { app, report } = await serve(t, {
      options: { resources: { db: { async pause () { throw new Error('no') }, close () {} } } }
    })
    await app.close()
    t.match(reportLine(await report), /^shutdown: failed in \d+ ms; error Resource 'db' did not pause: no$/)
  })
})
