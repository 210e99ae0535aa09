/** The picture is well-formed, harmless and complete. */
import t from 'tap'
import { draw } from '../../lib/timeline/drawing'
import { layOut } from '../../lib/timeline/layout'
import { narrow, wide } from '../../lib/timeline/measures'
import { renderSvg } from '../../lib/timeline/svg'
import { empty, hostileNames, reportNamed, resource, sample } from '../helpers/reports'
import { elementsOf } from '../helpers/xml'

const allowed = ['svg', 'style', 'rect', 'text', 'g', 'path', 'title']

t.test('the picture is well-formed XML of harmless elements', async t => {
  for (const report of [sample, empty, reportNamed(hostileNames)]) {
    const svg = renderSvg(report)
    t.strictSame([...new Set(elementsOf(svg))].filter(element => !allowed.includes(element)), [])
    t.notMatch(svg, /NaN|Infinity|undefined|null/)
    t.notMatch(svg, /<[^>]*\s(?:on\w+|href|src|style)=/)
    t.notMatch(svg, /<style>[^<]*(?:url\(|@import)/, 'it loads nothing')
  }
})

t.test('the picture has the outcome, the names and the errors', async t => {
  const svg = renderSvg({ ...sample, errors: [{ name: 'Error', message: 'boom', code: 'E_BOOM' }] })
  for (const text of ['Forced shutdown in 11.5 s, exit code 1', 'signal SIGTERM', '2 requests cut', 'lame-duck', 'postgres', 'forced', 'E_BOOM: boom', 'critical path', 'POST /reports/:id/export']) {
    t.ok(svg.includes(`>${text}`), text)
  }
  t.match(svg, '<title>redis: forced, start 8.26 s, 3.00 s, after worker, queue</title>')
})

t.test('the lists of the picture are short', async t => {
  const errors = Array.from({ length: 100 }, (_, index) => ({ name: 'Error', message: `boom ${index}`, code: '' }))
  const svg = renderSvg({ ...empty, errors })
  t.match(svg, '>and 92 more<')
  t.notMatch(svg, 'boom 8')
})

t.test('every row has its own place, also in the narrow picture', async t => {
  const resources = Array.from({ length: 60 }, (_, index) => resource(`r${index}`, index * 1_000, 900, index > 0 ? [`r${index - 1}`] : []))
  const layout = layOut({ ...sample, resources, durationMs: 60_000 }, 80)
  for (const measures of [wide, narrow]) {
    const { elements, height } = draw(layout, measures)
    const tops = elements.flatMap(element => /^<svg y="([\d.]+)"/.exec(element)?.slice(1).map(Number) ?? [])
    t.equal(tops.length, 4 + 3 + 63)
    t.ok(tops.every((top, index) => index === 0 || top - tops[index - 1]! >= measures.row))
    t.ok(tops.at(-1)! + measures.row <= height)
    for (const [, x, width] of elements.join('').matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)) {
      t.ok(Number(x) >= 0 && Number(x) + Number(width) <= measures.width + 0.1)
    }
  }
})
