/** The code blocks of docs/testing.md run. Those for vitest and jest run in test/wild/test-runners.test.ts. */
import t from 'tap'
import * as kit from '../../lib/testing'
import { run } from '../helpers/children'
import { filesOfPage, writeProject } from '../helpers/testing-page'

const files = [...filesOfPage().keys()]
const underNode = ['shutdown.test.js', 'node.test.js', 'sinon.test.js', 'mock-timers.test.js']
const underOthers = ['tap.test.js', 'vitest.test.js', 'jest.test.js', 'jest.config.js', 'to-commonjs.js']

t.test('every file of the page is run by a test', async t => {
  t.strictSame(files.sort(), ['app.js', ...underNode, ...underOthers].sort())
})

t.test('each function of the kit has an example', async t => {
  const code = filesOfPage().get('shutdown.test.js')!
  t.strictSame(Object.keys(kit).filter(name => !code.includes(`${name}(`)), [])
  t.ok(code.match(/^test\(/gm)!.length >= 7)
})

const directory = writeProject(t.testdir(), ['app.js', ...underNode, 'tap.test.js'], 'module')

for (const file of underNode) {
  t.test(`${file} passes under node:test`, async t => {
    const child = run(t, { args: ['--test', file], cwd: directory })
    const { code, stderr } = await child.ended
    t.equal(code, 0, child.lines.join('\n') + stderr)
    t.equal(child.count('# fail 0'), 1)
  })
}

t.test('the examples pass without a runner, too: no shutDown() ends the process', async t => {
  const child = run(t, { args: ['shutdown.test.js'], cwd: directory })
  const { code, stderr } = await child.ended
  t.equal(code, 0, child.lines.join('\n') + stderr)
  t.equal(child.count('# fail 0'), 1)
  t.ok(Number(await child.said('# pass')) >= 9)
})

t.test('tap.test.js passes under tap', async t => {
  const child = run(t, { args: ['tap.test.js'], cwd: directory, env: { TAP: '1' } })
  const { code, stderr } = await child.ended
  t.equal(code, 0, child.lines.join('\n') + stderr)
  t.equal(child.count('ok 1 - the service shuts down'), 1)
})
