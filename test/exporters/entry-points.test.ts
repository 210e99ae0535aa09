/** What the entry points of the exporters load, and what happens if their packages are not installed. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadPeers } from '../../lib/exporters/peer'
import { shortDirectory, translate } from '../helpers/children'

const root = join(__dirname, '../..')

/** Runs a script in a folder, and parses what it prints. */
function evaluate (cwd: string, script: string): any { // any: each test looks into its own shape
  return JSON.parse(execFileSync(process.execPath, ['--eval', script], { cwd, encoding: 'utf8', env: { PATH: process.env.PATH, TAP: '' } }))
}

const clients = /[\\/](?:prom-client|@opentelemetry|exporters[\\/](?:prometheus|opentelemetry|pushgateway|textfile|peer)[^\\/]*\.js$)/

t.test('the main entry point loads neither exporter and none of their packages', async t => {
  const directory = translate(t.testdir(), ['lib'])
  const loaded = (file: string): string[] => evaluate(directory, `require('./lib/${file}'); console.log(JSON.stringify(Object.keys(require.cache)))`)
  const main = loaded('index.js')
  t.ok(main.length > 50)
  t.strictSame(main.filter(file => clients.test(file)), [])
  // The pattern finds them where they are loaded.
  t.ok(loaded('exporters/prometheus.js').some(file => clients.test(file)))
  const both = evaluate(directory, `
    require('./lib/exporters/prometheus').prometheus({ registry: new (require('prom-client').Registry)() })
    console.log(JSON.stringify(Object.keys(require.cache).filter(file => file.includes('@opentelemetry/sdk'))))
  `)
  t.strictSame(both, [])
})

t.test('without its package, an exporter names what to install', async t => {
  // Outside of this repository, so that Node finds only what is linked.
  const directory = translate(shortDirectory(t), ['lib'])
  mkdirSync(join(directory, 'node_modules/@fastify'), { recursive: true })
  symlinkSync(join(root, 'node_modules/@fastify/error'), join(directory, 'node_modules/@fastify/error'))
  const errorOf = (name: string): object => evaluate(directory, `
    try {
      require('./lib/exporters/${name}').${name}()
    } catch ({ code, message }) {
      console.log(JSON.stringify({ code, message }))
    }
  `)
  t.strictSame(errorOf('prometheus'), {
    code: 'FST_ERR_SHUTDOWN_PEER',
    message: "'fastify-shutdown/prometheus' needs prom-client or @platformatic/prom-client, which is not installed. Run: npm install prom-client"
  })
  t.strictSame(errorOf('opentelemetry'), {
    code: 'FST_ERR_SHUTDOWN_PEER',
    message: "'fastify-shutdown/opentelemetry' needs @opentelemetry/api, which is not installed. Run: npm install @opentelemetry/api"
  })
})

t.test('a package that is installed is loaded also if another one is missing', async t => {
  t.equal(loadPeers<object>('prometheus', ['no-such-package', 'prom-client'])[0], require('prom-client'))
  t.throws(() => loadPeers('prometheus', ['no-such-package']), { code: 'FST_ERR_SHUTDOWN_PEER' })
})
