/** What becomes of connections that the kernel has taken and nobody has accepted when a listener closes: it resets them, whatever they have sent. */
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { post } from '../helpers/client'
import { run, translate } from '../helpers/children'

const directory = translate(t.testdir(), ['lib', 'test/http/fixtures/posted.ts'])
const crowd = 30
const restarts = 6

type End = 'answered' | 'refused' | string

/** A POST on a connection of its own. */
function send (port: number): Promise<End> {
  return new Promise(resolve => {
    let answer = ''
    let error: NodeJS.ErrnoException | null = null
    const socket = net.connect(port, '127.0.0.1', () => { socket.write(post('/', 'hello', { Connection: 'close' })) })
    socket.on('data', data => { answer += String(data) }).once('error', thrown => { error = thrown })
    socket.once('close', () => resolve(answer.startsWith('HTTP/1.1 200') ? 'answered' : error?.code === 'ECONNREFUSED' ? 'refused' : error?.code ?? 'ended'))
  })
}

t.test('a listener that closes resets next to nobody, though a crowd goes on to connect without a pause', async t => {
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
  t.comment(`${answered} answered, ${refused} refused, else ${JSON.stringify(lost)}`)
  // With a queue of its usual length nearly all of the crowd stood in it each time.
  const resets = Object.values(lost).reduce((sum, count) => sum + count, 0)
  t.ok(resets <= restarts * crowd / 10, `${resets} were reset in ${restarts} restarts`)
})
