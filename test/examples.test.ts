/** The numbered examples run, and show what they promise. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t from 'tap'
import { findServer, unless } from './helpers/services'

const root = join(__dirname, '..')
execFileSync('npm', ['run', '--silent', 'build:examples'], { cwd: root, stdio: 'inherit' })

async function run (lesson: string): Promise<{ code: number | null, lines: string[] }> {
  const child = spawn(process.execPath, [join(root, 'dist', 'examples', `${lesson}.js`)], {
    cwd: root,
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
