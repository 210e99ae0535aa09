/** What npm publishes: the files, the size, the entry points, and what an import loads. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildPackage } from './helpers/package'

const root = join(__dirname, '..')
const directory = t.testdir({})
const own = join(directory, 'node_modules/fastify-shutdown')

// A build of its own, because another test may build into dist/ at the same time.
buildPackage(own)
// Without it, the name would be the repository's own package.
writeFileSync(join(directory, 'package.json'), '{}')
// What npm must leave out.
for (const folder of ['docs', 'examples', 'test/helpers']) cpSync(join(root, folder), join(own, folder), { recursive: true })

const manifest = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8'))
const [pack] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: own, encoding: 'utf8' })) as [{
  readonly files: ReadonlyArray<{ readonly path: string }>
  readonly size: number
  readonly unpackedSize: number
}]
const files = pack.files.map(({ path }) => path)

/** Evaluates code in the directory that has the package. @returns what it prints, as JSON */
function evaluate<T> (code: string): T {
  // Without NODE_OPTIONS: tap loads modules of its own in each child.
  return JSON.parse(execFileSync(process.execPath, ['--eval', code], { cwd: directory, encoding: 'utf8', env: { PATH: process.env['PATH'] } }))
}

t.test('the package has the library, the types and the command, and nothing else', async t => {
  const allowed = /^(?:package\.json|README(?:\.zh-CN)?\.md|LICENSE|bin\/fastify-shutdown\.js|types\/report\.schema\.json|dist\/(?:lib|types)\/.+\.(?:js|d\.ts))$/
  t.strictSame(files.filter(file => !allowed.test(file)), [])
  for (const file of ['README.md', 'LICENSE', 'dist/lib/index.js', 'dist/lib/index.d.ts']) t.ok(files.includes(file), file)
})

t.test('every entry point and every type of it is in the package', async t => {
  const targets = [manifest.main, manifest.types, ...Object.values(manifest.bin), ...Object.values(manifest.exports).flatMap(target => typeof target === 'string' ? target : Object.values(target as object))]
  for (const target of targets as string[]) {
    t.ok(files.includes(target.replace('./', '')), target)
    t.ok(existsSync(join(own, target)), target)
  }
})

t.test('the package stays small', async t => {
  t.ok(pack.size < 400_000, `packed: ${pack.size} bytes`)
  t.ok(pack.unpackedSize < 1_500_000, `unpacked: ${pack.unpackedSize} bytes`)
  t.strictSame(Object.keys(manifest.dependencies).sort(), ['@fastify/error', 'close-with-grace', 'fastify-plugin', 'yaml'])
})

t.test('an import loads what every service needs, and no adapter, exporter, command or driver', async t => {
  const loaded = evaluate<string[]>("require('fastify-shutdown'); console.log(JSON.stringify(Object.keys(require.cache)))")
  const [mine, others] = [loaded.filter(file => file.startsWith(own)), loaded.filter(file => !file.startsWith(own))]
  t.comment(`${mine.length} modules, ${others.length} of dependencies, ${pack.size} bytes packed, ${pack.unpackedSize} unpacked`)
  t.ok(mine.length < 120, `${mine.length} modules of the package`)
  t.ok(others.length < 15, `${others.length} modules of its dependencies`)
  const lazy = /dist\/lib\/(?:cli|timeline|testing|resources\/adapters|exporters\/(?:prometheus|opentelemetry|pushgateway|textfile))/
  t.strictSame(mine.filter(file => lazy.test(file)), [])
  t.strictSame(others.filter(file => /node_modules\/(?:yaml|prom-client|@opentelemetry)\//.test(file)), [])
})

t.test('an app that listens has loaded what its shutdown needs, and no part that it does not use', async t => {
  const { ready, shutdown } = evaluate<{ readonly ready: string[], readonly shutdown: string[] }>(`
    const app = require('fastify')()
    const loaded = () => Object.keys(require.cache).filter(file => file.startsWith(${JSON.stringify(own)}))
    let ready
    app.register(require('fastify-shutdown'), { exit: false, delay: 0, resources: { db: { close () {} } } })
    app.listen({ port: 0 })
      .then(() => { ready = loaded() })
      .then(() => app.shutdown.start())
      .then(() => console.log(JSON.stringify({ ready, shutdown: loaded().filter(file => !ready.includes(file)) })))
  `)
  const files = ready.map(file => file.slice(own.length + 1))
  t.comment(`${files.length} modules of the package`)
  t.ok(files.includes('dist/lib/lifecycle/shutdown.js'))
  t.ok(files.length <= 105, `${files.length} modules of the package`)
  const unused = /dist\/lib\/(?:attach|http\/(?:probes|plain-)|process\/(?:cluster|pm2|systemd|systemd-notify)|resources\/adapters|exporters\/(?:prometheus|opentelemetry|pushgateway|textfile)|cli|timeline|testing)/
  t.strictSame(files.filter(file => unused.test(file)), [])
  // A deploy may have replaced the files by then.
  t.strictSame(shutdown, [], 'the shutdown itself loads no file')
})

t.test('the command and each entry point load from the package', async t => {
  for (const name of Object.keys(manifest.exports).filter(name => !name.endsWith('.json'))) {
    const names = evaluate<string[]>(`console.log(JSON.stringify(Object.keys(require('fastify-shutdown${name.slice(1)}'))))`)
    t.ok(names.length > 0, name)
  }
  symlinkSync(join(own, 'bin/fastify-shutdown.js'), join(directory, 'command'))
  t.match(execFileSync(process.execPath, [join(directory, 'command'), '--help'], { encoding: 'utf8' }), 'Usage: fastify-shutdown')
})
