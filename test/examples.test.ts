/** The numbered examples run, and show what they promise. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t from 'tap'
import { lineWith, run as start } from './helpers/children'
import { directoryWithPackage } from './helpers/package'
import { findServer, freePort, unless } from './helpers/services'

const root = join(__dirname, '..')
const files = readdirSync(join(root, 'examples')).filter(file => /^\d\d-/.test(file))
const directory = directoryWithPackage(t, files.map(file => `examples/${file}`))

/** Runs a lesson by its name without `.ts`, or by its name with another extension. */
async function run (lesson: string): Promise<{ code: number | null, lines: string[] }> {
  const file = /\.[cm]js$/.test(lesson) ? lesson : `${lesson}.js`
  const child = spawn(process.execPath, [join(directory, 'examples', file)], {
    cwd: directory,
    // A lesson is not a part of this test: in a test runner, signals are off.
    env: { ...process.env, TAP: '' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', chunk => { text += chunk })
  const [code] = await once(child, 'close') as [number | null]
  return { code, lines: text.trim().split('\n') }
}

const before = (t: { ok: (value: boolean, text: string) => unknown }, lines: readonly string[], first: string, then: string): void => {
  t.ok(lines.includes(first) && lines.indexOf(first) < lines.indexOf(then), `'${first}' comes before '${then}'`)
}

t.test('lesson 1: the response in flight is complete, and closes its connection', async t => {
  t.same(await run('01-first-lines'), { code: 0, lines: ['200 close {"finished":true}'] })
})

t.test('lesson 2: each resource closes after everything that uses it', async t => {
  const { code, lines } = await run('02-order-of-resources')
  t.equal(code, 0)
  t.equal(lines[0], 'worker pauses')
  before(t, lines, 'worker has closed', 'cache begins to close')
  before(t, lines, 'cache has closed', 'database begins to close')
  before(t, lines, 'mailer has closed', 'worker has closed')
  t.equal(lines.at(-1), 'what set the duration: worker -> cache -> database')
})

t.test('lesson 3: a stuck resource costs its own timeout, and is named in the report', async t => {
  const { code, lines } = await run('03-a-stuck-resource')
  t.equal(code, 0)
  before(t, lines, 'the cache is forced', 'the database has closed')
  t.match(lines.join('\n'), /^cache forced Resource 'cache' did not finish in \d+ ms$/m)
  t.ok(lines.includes('database closed '))
  t.equal(lines.at(-1), 'outcome forced exit code 0')
})

t.test('lesson 4: a resource of a plugin closes in order, a removed resource does not close', async t => {
  t.same(await run('04-a-resource-of-your-own'), { code: 0, lines: ['search has closed', 'metrics have been sent'] })
})

t.test('lesson 5: a shutdown works without a server, and with a server that fails', async t => {
  const { code, lines } = await run('05-a-script-without-a-server')
  t.equal(code, 1)
  before(t, lines, 'import has stopped', 'database has closed')
  t.ok(lines.includes('cache failed the cache is on fire'))
})

void findServer('redis').then(redis => t.test('lesson 6: the service leaves the registry of its peers before it stops serving', unless('redis', redis !== undefined), async t => {
  // This process is a peer as well.
  const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
  const [ears, registry] = [new Redis(url), new Redis(url)]
  t.teardown(() => Promise.all([ears.quit(), registry.quit()]))
  const heard: unknown[] = []
  ears.on('pmessage', (_pattern, service, text) => {
    heard.push(registry.smembers(service).then(left => ({ ...JSON.parse(text), left })))
  })
  await ears.psubscribe('lesson-6-*')
  t.same(await run('06-tell-the-others'), { code: 0, lines: ['the peer knows 1', 'the peer hears of phase lame-duck and knows 0'] })
  t.same(await Promise.all(heard), [{ address: 'http://127.0.0.1:3000', phase: 'lame-duck', left: [] }], 'the service left the registry before it announced so')
}))

/** What each lesson prints; its exit code is 0. */
const printed: Readonly<Record<string, readonly string[]>> = {
  '07-a-503-of-your-own': ['503 {"title":"The shop restarts","phase":"draining"}', 'retry after true', 'in flight: 200'],
  '08-slow-uploads': ['200 {"bytes":60}'],
  '09-server-sent-events': ['first: data: 1', 'last: event: end, retry: 2000, data: "bye"'],
  '10-websockets': ['echo hello', '{"type":"restart"}', 'close code 1001'],
  '12-work-after-the-answer': ['202', 'the mail is sent', 'the parcel continues after the restart', 'parcel completed'],
  '15-two-servers': ['administrators answers', 'administrators has closed: clean', 'customers answers', 'customers has closed: clean', 'exit code 0'],
  '16-cluster': ['in flight: worker 1', 'the old worker ended with code 0', 'now: worker 2'],
  '17-pm2': ['the app is ready', 'message shutdown clean', 'exit code 0'],
  '18-kubernetes-probes': ['running: live 200, ready 200', 'without its database: live 200, ready 503', 'lame-duck: live 200, ready 503'],
  '19-metrics': [
    'fastify_shutdown_phase{app="shop",phase="running"} 1',
    'fastify_shutdown_resource_duration_seconds_count{app="shop",resource="database",outcome="closed"} 1'
  ],
  '20-tracing': ['span: phase draining', 'span: resource database', 'span: phase cleaning', 'span: shutdown', 'the exporter has closed'],
  '22-typescript': ['{"phase":"running","accepting":true,"aborted":false}', 'clean search, database'],
  '23-commonjs.cjs': ['CommonJS clean function function'],
  '24-es-modules.mjs': ['ECMAScript clean function function'],
  '26-nestjs.cjs': ['the request is answered', '200', 'the database closes'],
  '27-sentry': ['the cache has closed', 'the event is sent']
}

/** Lessons in which two parties print at the same time. */
const unordered = ['15-two-servers', '12-work-after-the-answer']

t.jobs = 3
for (const [lesson, lines] of Object.entries(printed)) {
  t.test(`lesson ${Number(lesson.slice(0, 2))}: ${lesson.slice(3)}`, { buffered: true }, async t => {
    const result = await run(lesson)
    t.equal(result.code, 0)
    if (unordered.includes(lesson)) t.same([...result.lines].sort(), [...lines].sort())
    else t.same(result.lines, lines)
  })
}

t.test('lesson 11: the session gets GOAWAY, and its open stream is answered', async t => {
  const { code, lines } = await run('11-http2')
  t.equal(code, 0)
  before(t, lines, 'GOAWAY, code 0', 'status 200')
  before(t, lines, '{"finished":true}', 'the session is closed')
})

void Promise.all(['redis', 'postgres'].map(name => findServer(name as 'redis' | 'postgres'))).then(([redis, postgres]) => {
  t.test('lesson 13: the job that runs is finished, and the others are left', unless('redis', redis !== undefined), async t => {
    t.same(await run('13-a-queue-worker'), { code: 0, lines: ['job 1 is done', 'jobs left for the next process: 2'] })
  })
  const missing = redis === undefined ? unless('redis', false) : unless('postgres', postgres !== undefined)
  t.test('lesson 14: adopted clients close in the declared order', missing, async t => {
    const { code, lines } = await run('14-several-databases')
    t.equal(code, 0)
    t.equal(lines.at(-1), 'order: redis -> postgres:reports -> postgres:orders')
  })
})

t.test('lesson 21: the test in it passes', async t => {
  const { code, lines } = await run('21-close-in-tests')
  t.equal(code, 0, lines.join('\n'))
})

t.test('lesson 25: fastify-cli waits for a request of 800 ms', async t => {
  const port = await freePort()
  const child = start(t, { args: [require.resolve('fastify-cli/cli.js'), 'start', '-l', 'info', '-p', String(port), 'examples/25-fastify-cli.cjs'], cwd: directory })
  await lineWith(child, 'Server listening')
  t.equal(await (await fetch(`http://127.0.0.1:${port}/slow`)).text(), '{"finished":true}')
  t.equal((await child.ended).code, 0)
  before(t, child.lines, 'the database has closed', 'outcome clean')
})

t.test('a lesson has at most 40 lines of code, its number in its first sentence, and a line in docs/lessons.md', async t => {
  const page = readFileSync(join(root, 'docs/lessons.md'), 'utf8')
  t.strictSame([...page.matchAll(/\]\(\.\.\/examples\/(\d\d-[^)]+)\)/g)].map(match => match[1]), files, 'in this order')
  for (const file of files) {
    const text = readFileSync(join(root, 'examples', file), 'utf8')
    t.match(text, new RegExp(`^/\\*\\*(?:\\n \\*)? Lesson ${Number(file.slice(0, 2))}: `), file)
    const code = text.replace(/\/\*\*.*?\*\//gs, '').split('\n').filter(line => !/^\s*(?:\/\/.*)?$/.test(line))
    t.ok(code.length <= 40, `${file}: ${code.length} lines`)
  }
})
