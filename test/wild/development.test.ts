/** Restarts in development: nodemon, `node --watch` and `tsx watch`, as the foreground job of a terminal. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../helpers/client'
import { run, translate, type Child } from '../helpers/children'

const directory = translate(t.testdir(), ['lib'])
const { resolve } = createRequire(__filename)

/** A service whose port is the one of its predecessor. */
const service = `
  const { existsSync, readFileSync, writeFileSync } = require('node:fs')
  const say = line => process.stdout.write(line + '\\n')
  const app = require('fastify')()
  app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
    signals: process.env.SIGNALS.split(' '),
    onReport: ({ outcome, exitCode, reason }) => say('report ' + outcome + ' ' + exitCode + ' ' + reason.detail)
  })
  app.get('/slow', async () => {
    say('slow begins')
    await new Promise(resolve => setTimeout(resolve, 1000))
    return 'slow'
  })
  process.on('exit', code => say('exit ' + code))
  const port = existsSync('port') ? Number(readFileSync('port', 'utf8')) : 0
  app.listen({ port, host: '127.0.0.1' }).then(() => {
    writeFileSync('port', String(app.server.address().port))
    say('ready ' + app.server.address().port)
  }, error => { say('not ready ' + error.code) })
`

let projects = 0

interface Started extends Child {
  readonly port: number
  /** Changes the file of the service. */
  touch(): void
}

async function start (t: Test, args: readonly string[], signals = 'SIGTERM SIGINT'): Promise<Started> {
  const cwd = join(directory, `project-${++projects}`)
  mkdirSync(cwd)
  writeFileSync(join(cwd, 'server.js'), service)
  const child = run(t, { args, cwd, group: true, env: { SIGNALS: signals } })
  const port = Number(await child.said('ready'))
  return { ...child, port, touch: () => appendFileSync(join(cwd, 'server.js'), '\n') }
}

/** @param agent with `keepAlive`, the connection stays open after the answer */
function get (port: number, agent: http.Agent | false = false): Promise<string> {
  return new Promise((resolve, reject) => {
    http.get({ port, path: '/slow', host: '127.0.0.1', agent }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', chunk => { body += String(chunk) }).once('end', () => resolve(`${response.statusCode} ${body}`))
    }).once('error', reject)
  })
}

const tools: Record<string, { readonly args: readonly string[], readonly signals: string, readonly signal: string }> = {
  nodemon: {
    args: [join(dirname(resolve('nodemon/package.json')), 'bin/nodemon.js'), '--quiet', '--delay', '50ms', 'server.js'],
    signals: 'SIGTERM SIGINT SIGUSR2',
    signal: 'SIGUSR2'
  },
  // The shell ends at the signal, and nodemon does not wait for the service: both listen at the same time.
  'nodemon with a shell around the service': {
    args: [join(dirname(resolve('nodemon/package.json')), 'bin/nodemon.js'), '--quiet', '--delay', '50ms', '--watch', 'server.js', '--exec', 'node server.js; true'],
    signals: 'SIGTERM SIGINT SIGUSR2',
    signal: 'SIGUSR2'
  },
  'node --watch': { args: ['--watch', 'server.js'], signals: 'SIGTERM SIGINT', signal: 'SIGTERM' },
  'tsx watch': {
    args: [join(dirname(resolve('tsx/package.json')), 'dist/cli.mjs'), 'watch', 'server.js'], signals: 'SIGTERM SIGINT', signal: 'SIGTERM'
  }
}

for (const [name, { args, signals, signal }] of Object.entries(tools)) {
  void t.test(`${name}: a request in flight is answered, and the successor listens on the same port`, async t => {
    const child = await start(t, args, signals)
    const agent = new http.Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const answer = get(child.port, agent)
    await child.said('slow begins')
    child.touch()
    t.equal(await answer, '200 slow')
    t.equal(await child.said('report'), `clean 0 ${signal}`)
    await eventually(() => child.count('ready') + child.count('not ready') === 2, () => child.lines)
    t.strictSame(child.lines.filter(line => line.startsWith('ready') || line.startsWith('not ready')), Array(2).fill(`ready ${child.port}`))
    const next = get(child.port)
    await eventually(() => child.count('slow begins') === 2, () => child.lines)
    child.kill('SIGINT')
    t.equal(await next, '200 slow', 'Ctrl-C, too, waits for the request in flight')
    await child.ended
    t.strictSame(child.lines.filter(line => /^(report|exit)/.test(line)), [`report clean 0 ${signal}`, 'exit 0', 'report clean 0 SIGINT', 'exit 0'])
  })
}
