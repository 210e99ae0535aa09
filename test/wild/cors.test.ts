/** @fastify/cors: browsers must be able to read the 503, so its headers are on each answer of a shutdown. */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { fetchOnce, get } from '../helpers/client'
import { entered, serveHeld, type Held } from '../helpers/serve'

const origin = 'https://shop.example'
const browser = { Origin: origin }
const preflight = get('/', { ...browser, 'Access-Control-Request-Method': 'GET' }, 'OPTIONS')

/** An app with @fastify/cors, whose drain is held open by a request of a browser. */
async function drain (t: Test, where: 'before' | 'routes', options: object = { origin }): Promise<Held & { readonly warnings: readonly string[] }> {
  const warnings: string[] = []
  const held = await serveHeld(t, {
    options: { exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'platform') warnings.push(...event.warnings) }) }] },
    [where]: async (app: FastifyInstance) => { await app.register(cors, options) }
  })
  void held.app.shutdown.start()
  await entered(held.app, 'draining')
  return { ...held, warnings }
}

t.test('registered before the plugin: the 503, preflight answers and the answer in flight have its headers', async t => {
  const { app, holder, release, report, warnings } = await drain(t, 'before')
  t.strictSame(warnings, [])
  t.match(await fetchOnce(app, get('/', browser)), { status: 503, headers: { 'access-control-allow-origin': origin, 'retry-after': '10', connection: 'close' } })
  t.match(await fetchOnce(app, get('/', browser, 'DELETE')), { status: 503, headers: { 'access-control-allow-origin': origin } })
  t.match(await fetchOnce(app, preflight), { status: 204, headers: { 'access-control-allow-origin': origin, 'access-control-allow-methods': /GET/, connection: 'close' } })
  release()
  t.match(await holder.answer(), { status: 200, headers: { 'access-control-allow-origin': origin, connection: 'close' }, body: 'held' })
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 2, rejected: 2, cut: [] } })
})

t.test('registered before the plugin: an origin look-up does not prolong the drain, and a request that waits for it is answered', async t => {
  const { app, holder, release, report } = await drain(t, 'before', {
    origin: (given: string | undefined, callback: (error: Error | null, allowed: boolean) => void) => { setTimeout(() => callback(null, given === origin), 50) }
  })
  t.match(await fetchOnce(app, get('/', browser)), { status: 503, headers: { 'access-control-allow-origin': origin, 'retry-after': '10' } })
  release()
  t.match(await holder.answer(), { status: 200, body: 'held' })
  t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
})

t.test('registered after the plugin: the answer in flight has its headers, and the 503 has none', async t => {
  const { app, holder, release, report } = await drain(t, 'routes')
  const answer = await fetchOnce(app, get('/', browser))
  t.match(answer, { status: 503, headers: { 'retry-after': '10' } })
  t.notOk('access-control-allow-origin' in answer.headers)
  t.equal((await fetchOnce(app, preflight)).status, 503)
  release()
  t.match(await holder.answer(), { status: 200, headers: { 'access-control-allow-origin': origin }, body: 'held' })
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 2 } })
})
