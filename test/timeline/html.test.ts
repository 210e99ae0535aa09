/** The page stands alone, runs nothing, and has all data in its tables. */
import { createHash } from 'node:crypto'
import t from 'tap'
import { renderHtml } from '../../lib/timeline/html'
import { empty, hostileNames, reportNamed, resource, sample } from '../helpers/reports'

t.test('the content security policy allows the style sheet of the page, and nothing else', async t => {
  const html = renderHtml(sample)
  const [, style = ''] = /<style>(.*?)<\/style>/s.exec(html) ?? []
  const hash = createHash('sha256').update(style).digest('base64')
  t.match(html, `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'">`)
  t.notMatch(html, / style="/, 'an attribute would be forbidden')
})

t.test('no name becomes markup', async t => {
  const html = renderHtml(reportNamed(hostileNames))
  const elements = (text: string): string[] => [...new Set(text.match(/<\/?[a-z!][a-z0-9]*/gi))]
  const expected = elements(`${renderHtml(sample)}<details></details><summary></summary>`)
  t.strictSame(elements(html).filter(element => !expected.includes(element)), [])
  t.notMatch(html, /<[^>]*\s(?:on\w+|href|src)=/)
  // eslint-disable-next-line no-control-regex
  t.notMatch(html, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|\p{Cs}/u)
})

t.test('the tables have all data', async t => {
  const html = renderHtml({ ...sample, errors: [{ name: 'TypeError', message: 'x is undefined', code: '' }] })
  const text = html.replace(/<svg.*?<\/svg>/gs, '').replace(/<[^>]*>/g, '|').replace(/\|+/g, '|')
  for (const row of [
    'draining|forced|2.00 s|5.00 s', 'audit log of order 4711|completed|1.32 s before|2.61 s', 'redis|forced|8.26 s|3.00 s|yes|worker|, |queue',
    'onClose hook of @fastify&#47;mysql|closed|8.20 s|240 ms', 'Requests rejected|37', 'WebSockets closed|6', 'Connections destroyed with a response in flight|2',
    '2.60 s|4|1|0', 'TypeError: x is undefined', 'GET /files/*: after 6.14 s, category downloads, waited for its client'
  ]) t.ok(text.includes(row.replace('&#47;', '/')), row)
})

t.test('a table with many rows is folded, and at most 1 000 rows are written', async t => {
  const resources = Array.from({ length: 100_000 }, (_, index) => resource(`r${index}`, index, 5))
  const html = renderHtml({ ...empty, resources, durationMs: 100_000 })
  t.ok(html.length < 1_000_000)
  t.match(html, '<details>\n<summary><h2 id="table-resources-and-hooks">')
  t.match(html, '<p>and 99000 more</p>')
  t.match(html, 'and 99920 more, which are not drawn')
})

t.test('the page of a shutdown of nothing has no empty part', async t => {
  const html = renderHtml(empty)
  t.match(html, 'Clean shutdown in 0 ms, exit code 0')
  t.notMatch(html, /<tbody>\s*<\/tbody>|<ul>\s*<\/ul>|NaN|undefined/)
})
