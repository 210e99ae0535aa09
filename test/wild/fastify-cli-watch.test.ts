/** `fastify start --watch`: the app runs in a child process, which is restarted when a file changes. */
import t from 'tap'
import { translate } from '../helpers/children'
import { eventually } from '../helpers/client'
import { get, start, type Started } from '../helpers/fastify-cli'
import { freePort } from '../helpers/services'

const directory = translate(t.testdir(), ['lib'])

/** Begins a slow request, and waits until its handler runs. */
async function begin (child: Started): Promise<{ readonly answer: Promise<string> }> {
  const earlier = child.count('slow begins')
  const answer = get(child.port, '/slow')
  await eventually(() => child.count('slow begins') > earlier, () => child.lines)
  return { answer }
}

void t.test('two changes during a request: it is answered, and the next process listens on the same port', async t => {
  const child = await start(t, directory, { args: ['-w', '-p', String(await freePort())] })
  const { answer } = await begin(child)
  // The watch begins some time after the app.
  while (!child.lines.some(line => line.includes('"msg":"shutdown: draining"'))) {
    child.touch()
    await pause(200)
  }
  child.touch()
  t.match(await answer, /^200 /)
  t.equal(await child.said('report'), 'clean 0')
  while (await get(child.port, '/').catch(() => '') !== '200 {"root":true}') await pause(50)
  t.notMatch((await stop(child)).stderr, 'EADDRINUSE')
})

void t.test('SIGTERM to the parent alone: the child answers its request, closes its resources, and ends', async t => {
  const child = await start(t, directory, { args: ['-w'] })
  const { answer } = await begin(child)
  process.kill(child.process.pid!, 'SIGTERM')
  t.equal(await answer, '200 draining')
  const { signal, stderr } = await child.ended
  t.strictSame([signal, stderr], ['SIGTERM', ''], 'fastify-cli has no listener of its own in the parent')
  t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
})

void t.test('Ctrl-C: the request is answered, and the resources close', async t => {
  const child = await start(t, directory, { args: ['-w'] })
  const { answer } = await begin(child)
  t.equal((await stop(child)).stderr, '')
  t.equal(await answer, '200 draining')
  t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
})

async function pause (ms: number): Promise<void> {
  await new Promise(resolve => { setTimeout(resolve, ms) })
}

async function stop (child: Started): ReturnType<() => Started['ended']> {
  child.kill('SIGINT')
  return await child.ended
}
