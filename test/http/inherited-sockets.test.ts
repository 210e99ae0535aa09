/**
 * A listening socket that several processes share: when one of them shuts down, the others go on to accept. The length of
 * its queue is a property of the socket, and not of the process (listen(2)).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { get } from '../helpers/client'
import { build, giveLocalhostTwoAddresses } from '../helpers/serve'
import { run, translate } from '../helpers/children'
import type { Way } from './fixtures/inherited'

const directory = translate(t.testdir(), ['lib', 'test/http/fixtures/inherited.ts'])

/** What connects when the old process is gone. */
const crowd = 200

/** How many clients connect without a pause while the old process shuts down. */
const always = 20

/** Linux drops a SYN where the queue is full, and the client sends it again after this time, in milliseconds. */
const repeatedSyn = 1_000

/** How long the crowd may take, in milliseconds. Without any shutdown it takes 100. */
const limit = 2_500

/** The socket comes from another process. */
const passed: readonly Way[] = ['fd 3', 'stdin', 'handle', 'cluster']

/** Node's, and not public: a socket with an address that does not listen yet. */
const { _createServerHandle: bind } = net as unknown as { _createServerHandle(address: string, port: number, family: 4): { readonly fd: number } }

/** The part of a listening handle that sets the length of its queue. */
interface Handle { listen(length: number): number }

t.test('the queue of a socket is shortened where this process has created it, and gets its length back', async t => {
  giveLocalhostTwoAddresses(t)
  // Short: a path of a socket has 107 bytes at most (unix(7)).
  const place = mkdtempSync(join(tmpdir(), 'queue-'))
  t.teardown(() => rmSync(place, { recursive: true }))
  const ours: readonly [string, (app: FastifyInstance) => Promise<unknown>][] = [
    ['a port', app => app.listen({ port: 0 })],
    ['a port and an address', app => app.listen({ port: 0, host: '127.0.0.1' })],
    ['a name with two addresses', app => app.listen({ port: 0, host: 'localhost' })],
    ['a port of its own', app => app.listen({ port: 0, host: '127.0.0.1', exclusive: true })]
  ]
  const others: typeof ours = [
    ['a file descriptor', app => app.listen({ fd: bind('127.0.0.1', 0, 4).fd } as object)],
    ['a handle', async app => {
      await app.ready()
      await new Promise<void>(resolve => { app.server.listen(bind('127.0.0.1', 0, 4), resolve) })
    }],
    // There a connect() to a full queue fails at once.
    ['a path', app => app.listen({ path: join(place, 'socket') })]
  ]
  for (const [name, listen] of [...ours, ...others]) {
    const { app } = await build(t)
    await listen(app)
    const lengths: number[] = []
    const { _handle: handle } = app.server as unknown as { readonly _handle: Handle }
    handle.listen = length => {
      lengths.push(length)
      return 0
    }
    await app.close()
    t.strictSame(lengths, ours.some(([each]) => each === name) ? [0, 511] : [], name)
  }
})

/** A request on a connection of its own. @returns who answered, or what went wrong */
function ask (port: number): Promise<string> {
  return new Promise(resolve => {
    let answer = ''
    let problem = 'ended'
    const socket = net.connect(port, '127.0.0.1', () => { socket.write(get('/', { Connection: 'close' })) })
    socket.setTimeout(4 * limit, () => { socket.destroy(new Error('too late')) })
    socket.on('data', data => { answer += String(data) }).once('error', (error: NodeJS.ErrnoException) => { problem = error.code ?? error.message })
    socket.once('close', () => resolve(/^HTTP\/1\.1 200[^]*\r\n\r\n(\d+)$/.exec(answer)?.[1] ?? (answer.split('\r\n')[0] || problem)))
  })
}

for (const way of [...passed, 'own, then sent', 'own, then fd 3', 'reusePort'] as const) {
  t.test(`${way}: the new process accepts as fast as before when the old one has shut down`, async t => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
    if (way === 'reusePort' && !(major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12))) return t.comment('this Node has no reusePort')
    const child = run(t, { args: [join(directory, 'test/http/fixtures/inherited.js')], cwd: directory, env: { WAY: way } })
    const port = Number(await child.said('port'))
    const [old, next] = [await child.said('old'), await child.said('new')]
    for (const pid of [old, next]) t.teardown(() => { try { process.kill(Number(pid), 'SIGKILL') } catch { /* It is gone. */ } })

    const stopped = new AbortController()
    const answers: string[] = []
    let slowest = 0
    const clients = Array.from({ length: always }, async () => {
      while (!stopped.signal.aborted) {
        const began = performance.now()
        answers.push(await ask(port))
        slowest = Math.max(slowest, performance.now() - began)
      }
    })
    process.kill(Number(old), 'SIGTERM')
    t.equal(await child.said('gone'), '0')
    stopped.abort()
    await Promise.all(clients)
    const lost = answers.filter(answer => answer !== old && answer !== next)
    // A socket of its own resets what its process has not accepted, see `accepts.test.ts`.
    if (way === 'reusePort') t.ok(lost.length <= always / 10, `${lost.length} of ${answers.length} were lost`)
    else t.strictSame(lost, [])
    // A process cannot know that it has passed on a socket of its own: there the queue is short for some turns.
    if (passed.includes(way)) t.ok(slowest < repeatedSyn, `the slowest of ${answers.length} took ${Math.round(slowest)} ms`)

    const began = performance.now()
    const late = await Promise.all(Array.from({ length: crowd }, () => ask(port)))
    const took = performance.now() - began
    t.strictSame(late.filter(answer => answer !== next), [])
    t.ok(took < limit, `${crowd} connections took ${Math.round(took)} ms`)
  })
}
