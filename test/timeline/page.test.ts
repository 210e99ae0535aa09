/** The page and the picture in a real browser: accessible, without errors, and readable on every screen. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import type { Browser, Page } from 'playwright-core'
import { renderHtml } from '../../lib/timeline/html'
import type { ReportData } from '../../lib/timeline/report-data'
import { renderSvg } from '../../lib/timeline/svg'
import { findChromium, startChromium, unlessChromium } from '../helpers/chromium'
import { empty, hostileNames, reportNamed, resource, sample } from '../helpers/reports'

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const path = findChromium()

const sixty: ReportData = {
  ...sample,
  resources: Array.from({ length: 60 }, (_, index) => resource(`service-${index}`, 7_007 + index * 50, 400, index > 0 ? [`service-${index - 1}`] : []))
}
const reports: Readonly<Record<string, ReportData>> = { sample, empty, sixty, hostile: reportNamed(hostileNames) }

t.test('in a browser', unlessChromium(path), async t => {
  const browser = await startChromium(path!)
  t.teardown(() => browser.close())

  for (const [name, report] of Object.entries(reports)) {
    t.test(`the page '${name}'`, async t => {
      const { page, messages, requests } = await open(t, browser, renderHtml(report))

      t.test('has no errors, loads nothing, and runs nothing', async t => {
        t.match(await page.title(), /^(?:Clean|Forced|Failed) shutdown in /)
        t.strictSame(messages, [])
        t.equal(requests.length, 1)
      })

      t.test('fits into every width, shows the picture for it, and no text covers another one', async t => {
        for (const width of [320, 390, 760, 761, 1_600]) {
          await page.setViewportSize({ width, height: 800 })
          t.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), `${width} pixels`)
          t.strictSame(await page.evaluate(shownPictures), [width > 760 ? 'wide' : 'narrow'])
          t.strictSame(await page.evaluate(overlaps), [], `${width} pixels`)
        }
      })

      t.test('has no accessibility violation, in light and dark', async t => {
        await page.evaluate(axe)
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme })
          const { violations, passes } = await page.evaluate<AxeResult>('axe.run()')
          t.strictSame(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]), [], colorScheme)
          t.ok(passes.some(({ id }) => id === 'color-contrast'), 'contrast was measured')
        }
      })
    })
  }

  t.test('the picture alone is an image that the browser draws, in both schemes', async t => {
    for (const [name, report] of Object.entries(reports)) {
      const file = write(t, 'timeline.svg', renderSvg(report))
      const page = await browser.newPage()
      await page.goto(file)
      t.equal(await page.evaluate('document.documentElement.tagName'), 'svg', name)
      t.equal(await page.evaluate("document.getElementsByTagName('parsererror').length"), 0)
      const paper = async (colorScheme: 'light' | 'dark'): Promise<unknown> => {
        await page.emulateMedia({ colorScheme })
        return await page.evaluate("getComputedStyle(document.querySelector('.paper')).fill")
      }
      t.not(await paper('light'), await paper('dark'))
      await page.close()
    }
  })

  t.test('a print is light', async t => {
    const { page } = await open(t, browser, renderHtml(sample))
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' })
    t.equal(await page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(255, 255, 255)')
    t.equal(await page.evaluate("getComputedStyle(document.querySelector('svg.wide')).display"), 'block')
  })
})

interface AxeResult {
  readonly violations: ReadonlyArray<{ readonly id: string, readonly nodes: ReadonlyArray<{ readonly html: string }> }>
  readonly passes: ReadonlyArray<{ readonly id: string }>
}

interface Opened {
  readonly page: Page
  /** Errors of scripts, and messages of the console: each violation of the content security policy is one. */
  readonly messages: readonly string[]
  readonly requests: readonly string[]
}

async function open (t: Test, browser: Browser, html: string): Promise<Opened> {
  const page = await browser.newPage()
  t.teardown(() => page.close())
  const messages: string[] = []
  const requests: string[] = []
  page.on('console', message => messages.push(message.text()))
  page.on('pageerror', error => messages.push(error.message))
  page.on('dialog', dialog => { messages.push(dialog.message()); void dialog.dismiss() })
  page.on('request', request => requests.push(request.url()))
  await page.goto(write(t, 'timeline.html', html))
  return { page, messages, requests }
}

function write (t: Test, name: string, content: string): string {
  const file = join(t.testdir(), name)
  writeFileSync(file, content)
  return pathToFileURL(file).href
}

const shownPictures = `[...document.querySelectorAll('svg.timeline')]
  .filter(svg => svg.getClientRects().length > 0).map(svg => svg.classList[1])`

/** Returns the pairs of texts in the picture whose visible parts overlap by more than a pixel. */
const overlaps = `(() => {
  const boxes = [...document.querySelectorAll('svg.timeline text')].flatMap(text => {
    const box = text.getBoundingClientRect()
    if (box.width === 0) return []
    const { left, right, top, bottom } = text.parentElement.classList.contains('timeline')
      ? { left: -Infinity, right: Infinity, top: -Infinity, bottom: Infinity }
      : clip(text.parentElement)
    return [{
      text: text.textContent, left: Math.max(box.left, left), right: Math.min(box.right, right),
      top: Math.max(box.top, top) + 2, bottom: Math.min(box.bottom, bottom) - 2
    }]
  })
  function clip (svg) {
    const matrix = svg.getScreenCTM()
    const { x, y } = new DOMPoint(0, 0).matrixTransform(matrix)
    return {
      left: x, top: y, right: x + svg.width.baseVal.value * matrix.a, bottom: y + svg.height.baseVal.value * matrix.d
    }
  }
  return boxes.flatMap((a, index) => boxes.slice(index + 1)
    .filter(b => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom && b.top < a.bottom)
    .map(b => [a.text, b.text]))
})()`
