/**
 * The service that every runtime runs. The variable SERVICE holds its settings as JSON, and it prints a line for each
 * event. It imports the built package by its name, as a user does.
 */
import { readFileSync, writeSync } from 'node:fs'
import diagnostics from 'node:diagnostics_channel'
import { Readable } from 'node:stream'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'

const { options = {}, use = [], server = {}, resources = {} } = JSON.parse(process.env.SERVICE ?? '{}')
const uses = name => use.includes(name)
// Synchronous: no line is lost when the process ends.
const say = line => { writeSync(1, `${line}\n`) }
const pause = ms => new Promise(resolve => { setTimeout(resolve, ms) })
const { POSTGRES_URL = 'postgres://postgres@127.0.0.1:5432/postgres', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env
const fixture = name => readFileSync(new URL(`../helpers/fixtures/${name}`, import.meta.url))

process.on('exit', code => say(`exit ${code}`))

const app = Fastify({
  logger: uses('log') ? { level: 'info' } : { level: 'warn' },
  return503OnClosing: false,
  ...server,
  ...(uses('https') && { https: { key: fixture('key.pem'), cert: fixture('cert.pem') } })
})

const onPhase = ({ phase }) => say(`channel ${phase}`)
if (uses('channel')) diagnostics.subscribe('fastify-shutdown:phase', onPhase)
if (uses('kept channel')) {
  globalThis.keptChannel = diagnostics.channel('fastify-shutdown:phase')
  globalThis.keptChannel.subscribe(onPhase)
}
// A running service collects its garbage at some time.
globalThis.Bun?.gc(true)

const exporters = []
const extra = {}
if (uses('prometheus')) {
  const { default: client } = await import('prom-client')
  const { prometheus } = await import('fastify-shutdown/prometheus')
  const registry = new client.Registry()
  exporters.push(prometheus({ registry }))
  extra.metrics = () => registry.metrics()
}

await app.register(gracefulShutdown, {
  ...options,
  exporters,
  resources: {
    ...Object.fromEntries(Object.entries(resources).map(([name, { hangs, ...rest }]) => [name, {
      ...rest,
      pause () { say(`pause ${name}`) },
      async close () {
        say(`close ${name}`)
        await pause(hangs === true ? 60_000 : 20)
        say(`closed ${name}`)
      }
    }])),
    ...(uses('postgres') && uses('redis') && { redis: { dependsOn: ['postgres'] } })
  },
  async onReport (report) {
    await pause(50)
    say(`report ${JSON.stringify(report)}`)
    if (uses('metrics')) say(`metrics ${JSON.stringify(await extra.metrics())}`)
  }
})
for (const phase of ['lame-duck', 'draining', 'cleaning', 'shutdown']) app.shutdown.on(phase, () => { say(`phase ${phase}`) })

if (uses('postgres')) await app.register((await import('@fastify/postgres')).default, { connectionString: POSTGRES_URL })
if (uses('redis')) await app.register((await import('@fastify/redis')).default, { url: REDIS_URL })
if (uses('@fastify/websocket')) {
  await app.register((await import('@fastify/websocket')).default)
  app.get('/ws', { websocket: true }, socket => { socket.on('message', data => socket.send(`echo ${data}`)) })
}
if (uses('ws')) {
  const { WebSocketServer } = await import('ws')
  new WebSocketServer({ server: app.server, path: '/ws' }).on('connection', socket => {
    socket.on('message', data => socket.send(`echo ${data}`))
  })
}

app.get('/', async () => 'ok')
app.get('/state', async () => app.shutdownState)
app.get('/exempt', { config: { shutdown: { exempt: true } } }, async () => 'exempt')
app.get('/slow', async request => {
  say('handler runs')
  await pause(Number(request.query.ms))
  return 'x'.repeat(100_000)
})
app.get('/hang', async request => {
  say('handler runs')
  request.shutdownSignal.addEventListener('abort', () => say(`aborted ${request.shutdownSignal.reason?.code}`))
  await new Promise(() => {})
})
app.get('/big', async (_request, reply) => {
  say('handler runs')
  return reply.send(Buffer.alloc(Number(_request.query.bytes), 'x'))
})
app.post('/upload', { bodyLimit: 2 ** 26 }, async request => `${request.body.length} bytes`)
app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
app.get('/stream', async (_request, reply) => {
  const source = new Readable({ read () {} })
  const timer = setInterval(() => source.push('data: tick\n\n'), 20)
  source.on('close', () => clearInterval(timer))
  reply.type('text/event-stream')
  return app.shutdown.stream(source, { end: 'event: end\ndata: bye\n\n' })
})
app.get('/task', async () => {
  app.shutdown.waitUntil(pause(300).then(() => say('waited')), { name: 'mail' })
  app.shutdown.task('job', async signal => {
    await new Promise(resolve => { signal.addEventListener('abort', resolve) })
    say('task aborted')
    await pause(100)
    say('task done')
  }).catch(() => {})
  return 'ok'
})
app.get('/query', async () => {
  say('handler runs')
  const { rows } = await app.pg.query('select pg_sleep(0.4), 7 as n')
  return `${rows[0].n} ${await app.redis.ping()}`
})
app.get('/throw', async () => {
  setTimeout(() => { throw new Error('an uncaught exception') }, 20)
  return 'ok'
})
app.get('/reject', async () => {
  setTimeout(() => { Promise.reject(new Error('an unhandled rejection')) }, 20)
  return 'ok'
})
app.get('/close', async () => {
  app.close().then(() => say('close resolved'), error => say(`close rejected ${error.message}`))
  return 'ok'
})
app.addHook('onClose', async () => { say('onClose') })

await app.listen({ port: 0, host: '127.0.0.1' })
say(`port ${app.server.address().port}`)
