import { EventEmitter } from 'node:events'
import t from 'tap'
import { connectCluster } from '../../lib/process/cluster'
import { connectPm2 } from '../../lib/process/pm2'
import { connectSystemd } from '../../lib/process/systemd'
import { createServer } from './fixtures/managed-server'

t.test('in a process without a manager, no connection adds a listener or sends a message', async t => {
  const server = createServer()
  const env = { PATH: process.env.PATH }
  const pm2Process = Object.assign(new EventEmitter(), { env, connected: true, send: () => t.fail('a message is sent') })
  const listeners = (): unknown[] => process.eventNames().map(name => [name, process.listenerCount(name)])
  const before = listeners()
  for (const connection of [connectPm2(server, pm2Process), connectCluster(server), connectSystemd(server, { env })]) {
    connection.notifyReady()
    server.enter('draining')
    t.equal(server.listeners(), 0)
    connection.close()
    connection.close()
  }
  t.equal(pm2Process.eventNames().length, 0)
  t.strictSame(listeners(), before)
})
