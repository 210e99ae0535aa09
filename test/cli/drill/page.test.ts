/** The page of the drill in a real browser. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { formatHtml } from '../../../lib/cli/drill/outputs/html'
import { findChromium, startChromium, unlessChromium } from '../../helpers/chromium'
import { hostileNames, sampleJson } from '../../helpers/reports'
import { restart, resultOf } from './results'

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const path = findChromium()

const failed = restart({
  after: { resetBefore: 2, truncated: 1 },
  more: { failures: hostileNames.map((name, index) => ({ atMs: index, method: 'GET', path: name, class: 'truncated' as const, tookMs: 5, detail: name })) }
})
const pages: Readonly<Record<string, { html: string, hasTimeline: boolean }>> = {
  passed: { html: formatHtml(resultOf([restart()]), ''), hasTimeline: false },
  'with the report of the server': { html: formatHtml(resultOf([restart(), restart()]), `starting\n${JSON.stringify({ shutdown: JSON.parse(sampleJson) })}\n`), hasTimeline: true },
  'failed, with hostile names': { html: formatHtml(resultOf([failed], ['node', ...hostileNames]), hostileNames.join('\n')), hasTimeline: false }
}

t.test('in a browser', unlessChromium(path), async t => {
  const browser = await startChromium(path!)
  t.teardown(() => browser.close())
  for (const [name, { html, hasTimeline }] of Object.entries(pages)) {
    t.test(`the page '${name}' has no errors, fits its width, and has no accessibility violation`, async t => {
      const page = await browser.newPage({ bypassCSP: false })
      const messages: string[] = []
      page.on('console', message => { messages.push(message.text()) }).on('pageerror', error => { messages.push(String(error)) })
      const file = join(t.testdir(), 'drill.html')
      writeFileSync(file, html)
      await page.goto(pathToFileURL(file).href)
      t.match(await page.title(), /^Shutdown drill: (?:passed|failed)$/)
      t.equal(await page.locator('img.timeline').count(), hasTimeline ? 1 : 0)
      if (hasTimeline) {
        const text = await page.locator('pre').textContent()
        t.ok(text!.split('\n').length > 10, 'the same as text has its lines')
        t.match(text, /^Phases$/m)
      }
      if (hasTimeline) t.equal(await page.evaluate("document.querySelector('img.timeline').naturalWidth > 0"), true, 'the picture is drawn')
      for (const width of [390, 1_000]) {
        await page.setViewportSize({ width, height: 800 })
        t.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), `${width} pixels`)
      }
      t.strictSame(messages, [])
      await page.evaluate(axe)
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        const { violations } = await page.evaluate<{ violations: { id: string, nodes: { html: string }[] }[] }>('axe.run()')
        t.strictSame(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 150))]), [], colorScheme)
      }
      await page.close()
    })
  }
})
