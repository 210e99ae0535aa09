import { fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { connectPm2, type Pm2Process } from '../../lib/process/pm2'
import { typescript } from '../helpers/children'
import { createPm2 } from '../helpers/pm2'
import { createServer } from './fixtures/managed-server'

const app = join(__dirname, 'fixtures/pm2-app.ts')

/** A process that PM2 started, with the messages that it sent. */
function pm2ProcessOf (t: Test, { connected = true } = {}): { pm2Process: Pm2Process & EventEmitter, sent: unknown[] } {
  const sent: unknown[] = []
  const pm2Process = Object.assign(new EventEmitter(), {
    env: { pm_id: '0' },
    connected,
    send (message: unknown, _handle: undefined, _options: undefined, callback: (error: Error | null) => void) {
      t.type(callback, 'function', 'without a callback, a channel that closes at this moment emits an error')
      sent.push(message)
    }
  })
  return { pm2Process, sent }
}

t.test('a PM2 app without a channel gets no listener', async t => {
  const pm2Process = Object.assign(new EventEmitter(), { env: { pm_id: '0' } })
  connectPm2(createServer(), pm2Process).notifyReady()
  t.equal(pm2Process.eventNames().length, 0)
})

t.test("the message 'ready' is sent once", async t => {
  const { pm2Process, sent } = pm2ProcessOf(t)
  const connection = connectPm2(createServer(), pm2Process)
  connection.notifyReady()
  connection.notifyReady()
  t.strictSame(sent, ['ready'])
})

t.test("the message 'ready' is not sent into a closed channel", async t => {
  const { pm2Process, sent } = pm2ProcessOf(t, { connected: false })
  connectPm2(createServer(), pm2Process).notifyReady()
  t.strictSame(sent, [])
})

t.test("the message 'shutdown' starts a shutdown, until the connection is closed; other messages do not", async t => {
  const { pm2Process } = pm2ProcessOf(t)
  const server = createServer()
  const connection = connectPm2(server, pm2Process)
  for (const message of ['hello', null, { type: 'shutdown' }, 'Shutdown', 1]) pm2Process.emit('message', message)
  t.strictSame(server.reasons, [])
  pm2Process.emit('message', 'shutdown')
  t.strictSame(server.reasons, [{ kind: 'message', detail: 'shutdown' }])
  connection.close()
  pm2Process.emit('message', 'shutdown')
  t.equal(server.reasons.length, 1)
})

t.test('the open channel does not keep the process alive after the connection is closed', async t => {
  const child = fork(app, { execArgv: typescript, env: { ...process.env, TAP: '', pm_id: '7', kill_timeout: '4000' }, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  const [message] = await once(child, 'message')
  t.equal(message, 'ready')
  child.send('shutdown')
  const [code] = await once(child, 'exit')
  t.equal(code, 0)
})

t.test('the real PM2 waits for ready, passes its kill_timeout on, and stops the app by message', async t => {
  const { home, run, start } = createPm2(t)
  const output = join(home, 'out.log')
  const lines = (): unknown[] => readFileSync(output, 'utf8').trim().split('\n').map(line => JSON.parse(line))
  // PM2 chooses another interpreter for the extension .ts.
  writeFileSync(join(home, 'app.js'), `require(${JSON.stringify(app)})`)
  await start({
    name: 'app',
    script: join(home, 'app.js'),
    interpreter: process.execPath,
    node_args: typescript,
    exec_mode: 'fork',
    out_file: output,
    error_file: join(home, 'error.log'),
    wait_ready: true,
    listen_timeout: 20_000,
    kill_timeout: 4_321,
    shutdown_with_message: true,
    autorestart: false
  })
  t.strictSame(lines(), [{ platform: { name: 'pm2', delay: { min: 1_000, max: 1_000, quiet: 0 }, gracePeriod: 4_321, gracePeriodKnown: true } }], 'start returned once the app was ready')
  await run('stop', 'app')
  t.strictSame(lines().slice(1), [{ reason: { kind: 'message', detail: 'shutdown' } }])
})
