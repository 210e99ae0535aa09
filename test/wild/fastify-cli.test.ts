/**
 * Apps that `fastify generate` makes and `fastify start` runs. The plugin is registered in a file of plugins/, which
 * @fastify/autoload loads in an encapsulated context.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { run, translate } from '../helpers/children'
import { generate, get, start, type Options } from '../helpers/fastify-cli'

const directory = translate(t.testdir(), ['lib'])

for (const [name, options] of Object.entries<Options>({
  'a generated app': {},
  'a generated app with ECMAScript modules': { esm: true },
  'an app that is wrapped in fastify-plugin': { wrapped: true },
  'an app with --options': { args: ['--options'] }
})) {
  void t.test(`${name} drains for its whole time, closes its resources, and exits with 0`, async t => {
    const child = await start(t, directory, options)
    t.equal(await get(child.port, '/'), '200 {"root":true}')
    const answer = get(child.port, '/slow')
    await child.said('slow begins')
    child.kill('SIGTERM')
    t.equal(await answer, '200 draining')
    const { code, signal, stderr } = await child.ended
    t.strictSame([code, signal, stderr], [0, null, ''])
    t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
    t.match(child.lines.join('\n'), /takes the place of fastify-cli's close-with-grace/)
  })
}

void t.test('a crash under fastify-cli drains, and exits with 1', async t => {
  const child = await start(t, directory, { options: "{ exporters: [{ name: 'crash', start () { setTimeout(() => { throw new Error('boom') }, 1500) } }] }" })
  const answer = get(child.port, '/slow')
  t.match(await answer, /^200 /)
  t.equal((await child.ended).code, 1)
  t.equal(child.count('report failed 1'), 1)
})

void t.test('the file of plugins/ may export the plugin itself', async t => {
  const child = await start(t, directory, { direct: true })
  const answer = get(child.port, '/slow')
  await child.said('slow begins')
  child.kill('SIGTERM')
  t.equal(await answer, '200 draining')
  t.equal((await child.ended).code, 0)
})

void t.test('with signals: false the log warns of the 500 ms of fastify-cli, and names the remedy', async t => {
  const child = await start(t, directory, { options: '{ signals: false }' })
  t.match(child.lines.find(line => line.includes('--close-grace-delay')), /"level":40.*--close-grace-delay/)
  child.kill('SIGTERM')
  await child.ended
})

void t.test('the helper of fastify-cli for tests: there is no warning, and close() settles', async t => {
  const app = await generate(directory, {})
  const file = join(app, 'check.js')
  writeFileSync(file, `
    const { build } = require('fastify-cli/helper')
    build(['-l', 'warn', ${JSON.stringify(join(app, 'app.js'))}], { skipOverride: true }).then(async app => {
      const { statusCode } = await app.inject('/')
      console.log('status ' + statusCode, app.shutdownState.phase)
      await app.close()
      console.log('closed ' + app.shutdownState.phase)
    })
  `)
  const child = run(t, { args: [file], cwd: app, env: { NODE_TEST_CONTEXT: 'child-v8' } })
  const { code, stderr } = await child.ended
  t.strictSame([code, stderr], [0, ''])
  t.strictSame(child.lines, ['status 200 running', 'database closed', 'report clean 0', 'closed shutdown'])
})
