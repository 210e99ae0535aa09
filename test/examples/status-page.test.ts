/** The status page of the example service in a real browser, through a whole shutdown. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { findChromium, startChromium, unlessChromium } from '../helpers/chromium'

const root = join(__dirname, '../..')
// The examples import the package by its name, which is its build.
execFileSync('npm', ['run', '--silent', 'build:examples'], { cwd: root, stdio: 'inherit' })
const gracefulShutdown = require(join(root, 'dist/lib/index.js')) as typeof import('../../lib/index.js')
const { statusPage } = require(join(root, 'dist/examples/service/status-page.js')) as typeof import('../../examples/service/status-page.js')

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const path = findChromium()

t.test('the page shows each phase, what is in flight, and what has closed, until the process exits', unlessChromium(path), async t => {
  const app = Fastify()
  const gates = { request: createDeferred<void>(), redis: createDeferred<void>() }
  t.teardown(async () => {
    for (const gate of Object.values(gates)) gate.resolve()
    await app.close()
  })
  await app.register(gracefulShutdown, {
    signals: false,
    delay: 700,
    resources: { postgres: { close () {} }, redis: { dependsOn: ['postgres'], close: () => gates.redis.promise } }
  })
  await app.register(statusPage)
  app.get('/slow', async () => {
    await gates.request.promise
    return 'done'
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })

  const browser = await startChromium(path!)
  t.teardown(() => browser.close())
  const page = await browser.newPage()
  const problems: string[] = []
  page.on('console', message => { if (message.type() === 'error') problems.push(message.text()) }).on('pageerror', error => { problems.push(String(error)) })
  await page.goto(`${origin}/status.html`)
  const phase = async (name: string): Promise<void> => { await page.locator(`#${name}[aria-current=step]`).waitFor() }
  const count = async (id: string, value: string): Promise<void> => { await page.locator(`#${id}`, { hasText: new RegExp(`^${value}$`) }).waitFor() }

  await phase('running')
  const slow = fetch(`${origin}/slow`)
  await count('activeRequests', '1')
  const closed = app.shutdown.start('a deploy')
  void app.shutdown.task('mail', async () => {})
  await phase('lame-duck')
  t.equal(await page.locator('#message').textContent(), 'The shutdown began: start ')
  await phase('draining')
  await count('activeRequests', '1')
  gates.request.resolve()
  t.equal(await (await slow).text(), 'done')
  await phase('cleaning')
  t.equal(await page.locator('#steps tr', { hasText: 'mail' }).count(), 1)

  await page.evaluate(axe)
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    const { violations } = await page.evaluate<{ violations: { id: string }[] }>('axe.run()')
    t.strictSame(violations.map(({ id }) => id), [], colorScheme)
  }

  gates.redis.resolve()
  await closed
  await phase('shutdown')
  t.strictSame(await page.locator('#steps td:first-child').allTextContents(), ['mail', 'redis', 'postgres'])
  t.equal(await page.locator('#message').textContent(), 'Everything has closed. The process exits.')
  t.strictSame(problems, [])
})
