/** Connections left in the kernel's accept queue are reset when a listener closes, even if they have sent a request. */
import { join } from 'node:path'
import t from 'tap'
import { connect, post } from '../helpers/client'
import { run, translate } from '../helpers/children'

const directory = translate(t.testdir(), ['lib', 'test/http/fixtures/posted.ts'])
const crowd = 30
const restarts = 6

type End = 'answered' | 'refused' | string

/** Sends a POST on a new connection. */
async function send (port: number): Promise<End> {
  const client = await connect(port).catch((error: NodeJS.ErrnoException) => error.code ?? 'failed')
  if (typeof client === 'string') return client === 'ECONNREFUSED' ? 'refused' : client
  client.send(post('/', 'hello', { Connection: 'close' }))
  const how = await client.over
  return client.rest.startsWith('HTTP/1.1 200') ? 'answered' : how
}

t.test('a listener that closes resets almost no connection, even under a constant flow of new connections', async t => {
  const ends = new Map<End, number>()
  for (let restart = 0; restart < restarts; restart++) {
    const child = run(t, { args: [join(directory, 'test/http/fixtures/posted.js')], cwd: directory })
    const port = Number(await child.said('port'))
    let answered = 0
    const clients = Array.from({ length: crowd }, async () => {
      for (let end: End = ''; end !== 'refused';) {
        end = await send(port)
        ends.set(end, (ends.get(end) ?? 0) + 1)
        if (end === 'answered' && ++answered === 5 * crowd) child.kill('SIGTERM')
      }
    })
    await Promise.all(clients)
    t.match(await child.ended, { code: 0, stderr: '' })
  }
  const { answered = 0, refused = 0, ...lost } = Object.fromEntries(ends)
  t.comment(`${answered} answered, ${refused} refused, others ${JSON.stringify(lost)}`)
  // With an accept queue of the usual length, nearly every client was in the queue at each restart.
  const resets = Object.values(lost).reduce((sum, count) => sum + count, 0)
  t.ok(resets <= restarts * crowd / 10, `${resets} connections were reset in ${restarts} restarts`)
})
