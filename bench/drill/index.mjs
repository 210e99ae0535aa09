/** `npm run docs:drill`: runs the drill against several servers, and writes the table of docs/drill.md. */
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const require = createRequire(import.meta.url)
const { openPostgres } = require('../../dist/examples/demo/servers.js')
const restarts = 5
const server = name => [process.execPath, join(root, 'bench/drill/servers', `${name}.mjs`)]
const cli = join(root, 'node_modules/fastify-cli/cli.js')

/** In the order of the table. */
function subjects (databaseUrl) {
  return [
    {
      name: '[examples/service](../examples/service) with a `delay` of 1 s',
      command: [process.execPath, join(root, 'dist/examples/service/main.js')],
      options: ['--path', '/health/live', '--path', '/status'],
      env: { DATABASE_URL: databaseUrl, SHUTDOWN_DELAY: '1000', PORT: '0' }
    },
    { name: 'Fastify with the plugin, and a `delay` of 1 s', command: server('fastify-shutdown') },
    { name: 'Fastify with `close()` on SIGTERM', command: server('fastify-close') },
    { name: 'Fastify without a handler', command: server('fastify') },
    { name: 'node:http without a handler', command: server('http') },
    { name: 'Express with @godaddy/terminus', command: server('terminus') },
    {
      name: 'an app under fastify-cli',
      command: [
        process.execPath, cli, 'start', '-p', '0', '-a', '127.0.0.1', join(root, 'bench/drill/servers/fastify-cli.mjs')
      ]
    },
    {
      name: "Python's http.server",
      command: [
        'python3', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', join(root, 'bench/drill/servers')
      ],
      skip: !runs('python3')
    }
  ]
}

const { url, stop } = await openPostgres(process.env.DATABASE_URL)
const rows = []
try {
  for (const subject of subjects(url)) {
    if (subject.skip) {
      console.error(`skipped: ${subject.name}`)
      continue
    }
    const result = await drill(subject)
    rows.push(row(subject.name, result))
    console.error(rows.at(-1))
  }
} finally {
  await stop()
}
write([
  '| server | verdict | lost per restart | other findings | time to the end |',
  '|---|---|---:|---|---:|',
  ...rows,
  '',
  `Node.js ${process.version}, ${restarts} restarts each, \`--grace 10\`.`
].join('\n'))

function drill ({ command, options = [], env = {} }) {
  const args = [
    'drill', '--json', '--restarts', String(restarts), '--before', '1', '--grace', '10', ...options, '--', ...command
  ]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [join(root, 'bin/fastify-shutdown.js'), ...args], { env: { ...process.env, ...env }, maxBuffer: 2 ** 26 }, (_error, stdout, stderr) => {
      if (stdout === '') reject(new Error(stderr))
      else resolve(JSON.parse(stdout))
    })
  })
}

function row (name, { verdict, lost, reasons, restarts: all }) {
  const times = all.flatMap(({ process }) => process.phases.total ?? []).sort((a, b) => a - b)
  const time = times.length === 0 ? 'not over' : `${Math.round(times[times.length >> 1])} ms`
  const others = reasons.filter(({ rule }) => rule !== 'lost').map(({ message }) => message.replaceAll('|', '\\|'))
  return `| ${name} | ${verdict} | ${(lost / all.length).toFixed(1)} | ${others.join('; ') || '-'} | ${time} |`
}

/** Replaces the text between the markers. */
function write (table) {
  const file = join(root, 'docs/drill.md')
  const [before, rest] = readFileSync(file, 'utf8').split('<!-- begin: npm run docs:drill -->\n')
  const [, after] = rest.split('<!-- end -->')
  writeFileSync(file, `${before}<!-- begin: npm run docs:drill -->\n${table}\n<!-- end -->${after}`)
}

function runs (program) {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
