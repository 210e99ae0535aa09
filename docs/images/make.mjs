// Draws the pictures of docs/timeline.md from report.json: `npm run docs:images`.
// Needs a Chromium: the one in the variable CHROMIUM, or an installed one.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const folder = dirname(fileURLToPath(import.meta.url))
const require = createRequire(import.meta.url)
const { readReport } = require('../../dist/lib/timeline/read-report.js')
const { renderHtml } = require('../../dist/lib/timeline/html.js')

const executablePath = process.env.CHROMIUM ??
  ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
if (executablePath === undefined) throw new Error('no Chromium found: set CHROMIUM to the path of one')

const html = renderHtml(readReport(readFileSync(join(folder, 'report.json'), 'utf8')))
// Grey text makes smaller files than coloured subpixels.
const args = ['--no-sandbox', '--disable-gpu', '--disable-lcd-text']
const browser = await chromium.launch({ executablePath, args })
try {
  await shoot('timeline-light.png', { colorScheme: 'light', viewport: { width: 1_000, height: 900 } })
  await shoot('timeline-dark.png', { colorScheme: 'dark', viewport: { width: 1_000, height: 900 } })
  await shoot('timeline-narrow.png', { colorScheme: 'light', viewport: { width: 390, height: 900 } })
} finally {
  await browser.close()
}

/** Takes the upper part of the page: the outcome, the picture, and its legend. */
async function shoot (name, options) {
  const page = await browser.newPage(options)
  await page.setContent(html)
  const picture = page.locator('svg.timeline:visible')
  const { y, height } = await picture.boundingBox()
  const path = join(folder, name)
  const clip = { x: 0, y: 0, width: options.viewport.width, height: y + height + 24 }
  await page.screenshot({ path, fullPage: true, clip })
  await page.close()
  console.log(`docs/images/${name}: ${Math.round(statSync(path).size / 1_024)} KiB`)
}
