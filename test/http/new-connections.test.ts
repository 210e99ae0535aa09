/** New connections while draining: when the server answers them, and when the port refuses them. */
import t from 'tap'
import { connect, eventually, fetchOnce, get, portOf } from '../helpers/client'
import { entered, rejected, serve, serveHeld } from '../helpers/serve'
import { timed } from '../helpers/timed'

t.test('the port refuses connections while a slow preClose hook runs', async t => {
  let how: unknown
  const { app } = await serve(t, { routes: app => { app.addHook('preClose', async () => { how = await connect(port).catch(error => error.code) }) } })
  const port = portOf(app)
  await app.close()
  t.equal(how, 'ECONNREFUSED')
})

t.test("with newConnections: 'refuse' the port refuses connections from the start of draining", async t => {
  const { app, holder, release } = await serveHeld(t, { options: { newConnections: 'refuse' } })
  const port = portOf(app)
  const closed = app.close()
  await entered(app, 'draining')
  await t.rejects(connect(port), { code: 'ECONNREFUSED' })
  holder.send(get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  release()
  t.match(await holder.answer(), { status: 200 })
  t.match(await holder.answer(), rejected, 'an open connection still gets the 503')
  await closed
})

t.test("newConnections: 'auto' answers without a lame-duck phase, and refuses after one", async t => {
  for (const [delay, expected] of [[0, 503], [100, 'ECONNREFUSED']] as const) {
    const { app, release } = await serveHeld(t, { options: { delay } })
    const port = portOf(app)
    const done = app.shutdown.start()
    await entered(app, 'draining')
    const met = await fetchOnce(port, get('/')).then(({ status }) => status, error => error.code)
    t.equal(met, expected, `after a lame-duck phase of ${delay} ms`)
    release()
    await done
  }
})

t.test('a connection that is accepted at the end of lame-duck and sends its request after the listener closed is served', async t => {
  const { app } = await serve(t, { options: { delay: 100 }, routes: app => { app.get('/', async () => 'served') } })
  const inLameDuck = entered(app, 'lame-duck')
  const closed = app.shutdown.start()
  await inLameDuck
  const late = await connect(app)
  await eventually(() => !app.server.listening, () => app.shutdownState.phase)
  late.send(get('/'))
  const answer = await late.answer()
  t.match(answer, { status: 200, body: 'served', headers: { connection: 'close' } })
  t.match(await closed, { outcome: 'clean', sockets: { silent: 0 } })
})

t.test('a silent connection that is accepted in lame-duck delays draining by at most 100 ms', async t => {
  const { app } = await serve(t, { options: { delay: 100 } })
  const inLameDuck = entered(app, 'lame-duck')
  const closed = app.shutdown.start()
  await inLameDuck
  await connect(app)
  const { lost } = await timed(() => closed)
  const { phases, sockets } = await closed
  t.equal(sockets.silent, 1)
  const lameDuck = phases.find(({ phase }) => phase === 'lame-duck')!
  t.ok(lameDuck.durationMs >= 195 && lameDuck.durationMs - lost < 400, `lame-duck took ${lameDuck.durationMs} ms`)
})

t.test("newConnections: 'answer' also answers after a lame-duck phase", async t => {
  const { app, release } = await serveHeld(t, { options: { newConnections: 'answer', delay: 50 } })
  const done = app.shutdown.start()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/')), rejected)
  release()
  await done
})
