/** `silentSocket` of the test kit. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { shutDown, silentSocket } from '../../lib/testing'
import { run, shortDirectory, translate } from '../helpers/children'
import { build, serve } from '../helpers/serve'

t.test('it listens if the app does not, and the shutdown closes it', async t => {
  const { app } = await build(t)
  const socket = await silentSocket(app)
  t.equal(app.server.listening, true)
  t.equal(socket.readyState, 'open')
  t.equal(app.server.address() !== null && (app.server.address() as { address: string }).address, '127.0.0.1')
  const closed = once(socket, 'close')
  const { sockets, outcome } = await shutDown(app)
  t.equal(outcome, 'clean')
  t.equal(sockets.silent, 1)
  await closed
})

t.test('many at once share the listener, and each one is counted', async t => {
  const { app } = await build(t)
  await Promise.all(Array.from({ length: 20 }, () => silentSocket(app)))
  t.equal((await shutDown(app)).sockets.silent, 20)
})

t.test('it connects to every kind of address', async t => {
  const tls = { key: readFileSync(join(__dirname, '../helpers/fixtures/key.pem')), cert: readFileSync(join(__dirname, '../helpers/fixtures/cert.pem')) }
  const path = join(shortDirectory(t), 'app.sock')
  for (const [name, fastify, address] of [
    ['IPv4', {}, { port: 0, host: '127.0.0.1' }],
    ['all IPv4', {}, { port: 0, host: '0.0.0.0' }],
    ['localhost', {}, { port: 0 }],
    ['a file', {}, { path }],
    ['TLS', { https: tls }, { port: 0, host: '127.0.0.1' }],
    ['HTTP/2', { http2: true }, { port: 0, host: '127.0.0.1' }]
  ] as const) {
    const { app } = await build(t, { fastify })
    await app.listen(address)
    const socket = await silentSocket(app)
    t.equal(socket.readyState, 'open', name)
    t.equal((await shutDown(app)).outcome, 'clean', name)
    if (!socket.closed) await once(socket, 'close')
  }
})

t.test('a reset is no uncaught exception', async t => {
  const { app } = await serve(t)
  const accepted = once(app.server, 'connection')
  const socket = await silentSocket(app)
  const [peer] = await accepted
  peer.resetAndDestroy()
  await new Promise(resolve => { socket.once('close', resolve) })
  t.ok(socket.destroyed)
})

t.test('an app that has closed, and a server that takes no connection, are errors', async t => {
  const { app } = await serve(t)
  app.server.maxConnections = 1
  await silentSocket(app)
  await t.rejects(silentSocket(app), { code: 'FST_ERR_SHUTDOWN_TEST', message: /not accepted by the server/ })
  await app.close()
  await t.rejects(silentSocket(app))
})

t.test('a test that forgets the socket and closes its app ends', async t => {
  const directory = translate(t.testdir(), ['lib'])
  const child = run(t, {
    cwd: directory,
    args: ['-e', `
      const { silentSocket } = require('./lib/testing')
      const app = require('fastify')({ forceCloseConnections: true })
      silentSocket(app).then(async socket => {
        await app.close()
        console.log('closed')
      })`]
  })
  await child.said('closed')
  t.match(await child.ended, { code: 0, signal: null, stderr: '' })
})
