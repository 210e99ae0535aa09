// `npm run test:matrix`: the tests over real sockets, against each version of Fastify 5 that closes differently, and under
// each supported Node.js. Fastify 5.9.0, 5.10.0 and 5.11.0 reset requests in flight on a plain close; with the plugin none does.
// Also the tests of NestJS against its version 12, which npm cannot install beside the version 11 of the root, those of
// node-redis against its versions 4 and 5, and the promises of test/runtimes under Bun and Deno.
//
//   npm run test:matrix                       all of it
//   npm run test:matrix -- fastify-5.9.0      one column
//   npm run test:matrix -- node-24 node-26
//   npm run test:matrix -- nest-12
//   npm run test:matrix -- newcomer           new projects with the newest packages of npm's own registry
//   npm run test:matrix -- redis-4 redis-5         need a redis-server
//   npm run test:matrix -- bun deno                need PostgreSQL and Redis, and `npm run build`
//
// Bun and Deno are not supported: docs/compatibility.md says what was seen. Their columns fail if something else is seen.
// The same promises run under this Node first, where each of them must work.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkAll, failuresOf, rowsOf } from '../runtimes/checks.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')
const modules = join(here, 'node_modules')
const manifest = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'))
const nest = 'nest-12'
const newcomer = 'newcomer'
const runtimes = { bun: ['bun', 'run'], deno: ['deno', 'run', '--allow-all'] }
const columns = [
  ...Object.keys(manifest.dependencies).filter(name => name.startsWith('fastify-')),
  nest,
  newcomer,
  ...Object.keys(manifest.dependencies).filter(name => name.startsWith('redis-')),
  ...Object.keys(manifest.optionalDependencies).filter(name => name.startsWith('node-')),
  ...Object.keys(runtimes)
]

/** Tests over real sockets: what they see depends on how Node and Fastify close. */
const files = ['test/http/**/*.test.ts', 'test/lifecycle/phases.test.ts', 'test/resources/close-hooks.test.ts', 'test/wild/lazy-thenables.test.ts']
const nestFiles = ['test/wild/nestjs.test.ts']
const newcomerFiles = ['--timeout=600', 'test/newcomer.test.ts']
const redisFiles = ['test/services/redis.test.ts']

const chosen = process.argv.slice(2)
const unknown = chosen.find(name => !columns.includes(name))
if (unknown !== undefined) throw new Error(`'${unknown}' is not in the matrix: ${columns.join(', ')}`)

// The projects of a new user install their packages themselves.
if (chosen.length === 0 || chosen.some(name => name !== newcomer)) {
  const installed = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: ['ignore', 'ignore', 'inherit'] })
  if (installed.status !== 0) process.exit(1)
}

/** The results of the promises under this Node. */
let inNode
const rows = []
for (const name of chosen.length > 0 ? chosen : columns) {
  const row = name in runtimes ? await runRuntime(name) : run(name)
  rows.push(row)
  console.log(`${row.ok ? 'ok    ' : 'not ok'} ${name.padEnd(16)} ${row.what}`)
  if (!row.ok) console.log(row.failures)
}
const failed = rows.filter(row => !row.ok).length
console.log(`${rows.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 && rows.length > 0 ? 0 : 1)

function run (name) {
  if (name === newcomer) return test(process.execPath, newcomerFiles, { NEWCOMER_REGISTRY: 'default' }, 'newest packages')
  const isNest = name === nest
  const own = join(modules, isNest ? '@nestjs/core' : name)
  const isNode = name.startsWith('node-')
  const isRedis = name.startsWith('redis-')
  const node = isNode ? join(own, 'bin', 'node') : process.execPath
  if (!existsSync(isNode ? node : own)) return { ok: false, what: 'is not installed: its binary is for 64-bit Linux', failures: '' }
  const version = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8')).version
  return test(node, isNest ? nestFiles : isRedis ? redisFiles : files, {
    // Children of tap find this one first.
    ...(isNode && { PATH: `${dirname(node)}:${process.env.PATH}` }),
    ...(isNest && { NEST_FOLDER: here }),
    ...(isRedis && { REDIS_MODULE: own }),
    ...(name.startsWith('fastify-') && { FASTIFY_MODULE: own })
  }, version)
}

function test (node, files, env, version) {
  const tap = join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs')
  const { status, stdout } = spawnSync(node, [tap, 'run', '--disable-coverage', '--reporter=tap', ...files], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env }
  })
  const [, summary = ''] = /^# \{ (total: .*) \}$/m.exec(stdout) ?? []
  const failures = stdout.split('\n').filter(line => /^\s*not ok/.test(line)).slice(0, 20).join('\n')
  return { ok: status === 0 && /total: [1-9]/.test(summary), what: `${version}: ${summary || `no test ran (exit code ${status})`}`, failures }
}

/** Runs the promises under Node, and then under another runtime, and compares the results with docs/compatibility.md. */
async function runRuntime (name) {
  const [command, ...args] = runtimes[name]
  const own = join(modules, name)
  if (!existsSync(own)) return { ok: false, what: 'is not installed', failures: '' }
  const { version } = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8'))
  inNode ??= await checkAll([process.execPath])
  const results = await checkAll([join(modules, '.bin', command), ...args])
  const failures = failuresOf(name, inNode, results)
  const works = results.filter(({ result }) => result === 'works').length
  const what = `${version}: total: ${results.length}, works: ${works}`
  return { ok: failures.length === 0, what, failures: [...failures, ...rowsOf(results)].join('\n') }
}
