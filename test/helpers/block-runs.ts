/** Processes of code blocks: a server that wants port 3000 gets a free one. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { completeProgram, type Program } from './block-programs'
import { blocksOf, blocksOfKind, type Block } from './blocks'
import { run, type Child } from './children'
import { receiveOtlp } from './otlp'
import { directoryWithPackage } from './package'
import { findServer, unless, type Server, type ServiceName } from './services'

/** The environment of such a process, and of its children. */
export const preload = { NODE_OPTIONS: `--require ${join(__dirname, 'fixtures/listen.cjs')}` }

/** Waits until the process or a child of it listens. @returns its port, and the pid of the process that listens */
export function listening (child: Child): Promise<{ readonly port: number, readonly pid: number }> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.process.stderr!.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const found = /^listens (\{.*\})$/m.exec(text)?.[1]
      if (found !== undefined) resolve(JSON.parse(found))
    })
    void child.ended.then(({ code, stderr }) => reject(new Error(`It ended with code ${code} before it listened: ${child.lines.join('\n')}\n${stderr}`)))
  })
}

/** Runs these programs as tests, a few at a time. */
export async function runPrograms (t: Test, blocks: readonly Block[]): Promise<void> {
  const directory = directoryWithPackage(t, [])
  // Files that a program finds in its folder.
  writeFileSync(join(directory, 'server.js'), blocksOf('README.md').find(({ language }) => language === 'js')!.code)
  writeFileSync(join(directory, 'tracing.js'), blocksOfKind('file').find(({ page }) => page === 'docs/compatibility.md')!.code)

  const servers = Object.fromEntries(await Promise.all((['postgres', 'redis', 'mysql'] as const).map(async name => [name, await findServer(name)])))
  const env = await environment(t, servers)
  t.jobs = 4
  for (const block of blocks) {
    const program = completeProgram(block)
    const missing = program.services.find(name => servers[name] === undefined)
    t.test(`${block.place}: ${program.run} ${block.code.split('\n').find(line => !line.startsWith('import'))}`, { buffered: true, ...missing !== undefined && unless(missing, false) }, async t => {
      const file = `${block.place.replace(/\W+/g, '-')}.mjs`
      writeFileSync(join(directory, file), program.code)
      const start = (...args: string[]): Child => run(t, { args: [...args, file], cwd: directory, env: { ...env, ...preload } })
      await runs[program.run](t, program, start)
    })
  }
}

/** Addresses of the servers. The tables of this test are in a schema of their own. */
async function environment (t: Test, servers: Readonly<Partial<Record<ServiceName, Server>>>): Promise<NodeJS.ProcessEnv> {
  const { postgres, redis, mysql } = servers
  const env: NodeJS.ProcessEnv = {}
  if (redis !== undefined) env.REDIS_URL = `redis://${redis.host}:${redis.port}`
  if (mysql !== undefined) env.MYSQL_URL = process.env.MYSQL_URL ?? `mysql://root@${mysql.host}:${mysql.port}/mysql`
  if (postgres !== undefined) {
    const { host, port, user = 'postgres', password = 'postgres' } = postgres
    const url = `postgres://${user}:${password}@${host}:${port}/postgres`
    const schema = `blocks_${process.pid}`
    const client = new pg.Client(url)
    await client.connect()
    await client.query(`create schema ${schema}; create table ${schema}.access (url text, status int); create table ${schema}.orders (item int)`)
    t.teardown(async () => {
      await client.query(`drop schema ${schema} cascade`)
      await client.end()
    })
    const options = `-c search_path=${schema}`
    env.POSTGRES_URL = `${url}?options=${encodeURIComponent(options)}`
    // For a client without options.
    Object.assign(env, { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: 'postgres', PGOPTIONS: options })
  }
  const otlp = await receiveOtlp(t)
  return { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }
}

const runs: Record<Program['run'], (t: Test, program: Program, start: (...args: string[]) => Child) => Promise<void>> = {
  async serves (t, program, start) {
    const child = start()
    const { port } = await listening(child)
    const answers = await Promise.all(program.routes.map(async ({ method, path }) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...method === 'POST' && { headers: { 'content-type': 'application/json' }, body: '{"item":1}' } })
      t.ok(response.status < 400, `${method} ${path}: ${response.status}`)
      return response
    }))
    if (program.routes.length === 0) await (await fetch(`http://127.0.0.1:${port}/`)).text()
    child.kill('SIGTERM')
    // A stream that is cut rejects here.
    await t.resolves(Promise.all(answers.map(answer => answer.text())))
    await endsWell(t, child)
  },
  async tests (t, _program, start) {
    const child = start('--test')
    await endsWell(t, child)
    t.equal(child.count('# fail 0'), 1)
    t.equal(child.count('# pass 0'), 0, 'there is a test')
  },
  async ends (t, _program, start) {
    await endsWell(t, start())
  }
}

/** The process exits with code 0. Its log has no line at level warn or above, and a clean shutdown. */
async function endsWell (t: Test, child: Child): Promise<void> {
  const { code, signal, stderr } = await child.ended
  const log = child.lines.filter(line => line.startsWith('{"level":')).map(line => JSON.parse(line) as { level: number, msg: string })
  t.strictSame({ code, signal }, { code: 0, signal: null }, `${child.lines.join('\n')}\n${stderr}`)
  t.strictSame(log.filter(({ level }) => level >= 40).map(({ msg }) => msg), [], 'no warning')
  // Not always the last line: at exit, pino writes its buffer while an earlier write is still in progress.
  if (log.length > 0) t.ok(log.some(({ msg }) => msg.startsWith('shutdown: clean in ')), 'the report is clean')
}
