/** Strings of any content are shown safely, and are measured and formatted. */
import t from 'tap'
import { formatDate, formatDuration, formatTick } from '../../lib/timeline/format'
import { cellsOf, clean, escape, shorten, wrap } from '../../lib/timeline/plain-text'
import { hostileNames } from '../helpers/reports'

t.test('no unsafe character is left', async t => {
  t.equal(clean('a\u001b[31m\r\nb\tc\u202ed\u2028\ud800'), 'a\ufffd[31m b c\ufffdd\ufffd\ufffd')
  t.equal(clean('👩‍👩‍👧‍👦 é שלום'), '👩‍👩‍👧‍👦 é שלום', 'text of any language stays')
  t.equal(escape('<a href="x">\'&amp;</a>'), '&#60;a href=&#34;x&#34;&#62;&#39;&#38;amp;&#60;/a&#62;')
})

t.test('a text has the width of its cells', async t => {
  for (const [text, cells] of [['abc', 3], ['é', 1], ['e\u0301', 1], ['数据', 4], ['한국', 4], ['🚀', 2], ['👩‍👩‍👧‍👦', 2], ['❤️', 2], ['שלום', 4], ['ｗ', 2], ['', 0]] as const) {
    t.equal(cellsOf(text), cells, text)
  }
})

t.test('a name is shortened in its middle', async t => {
  t.equal(shorten('postgres', 8), 'postgres')
  t.equal(shorten('postgres:analytics-replica-eu-west-1', 20), 'postgres:anal…west-1')
  t.equal(shorten('数据库连接池', 6), '数据…')
  t.equal(shorten('abc', 1), '…')
  t.equal(shorten('abc', 0), '')
  for (const name of hostileNames) for (const cells of [1, 2, 5, 30, 200]) t.ok(cellsOf(shorten(name, cells)) <= cells)
})

t.test('lines break between words, and a long word is shortened', async t => {
  t.strictSame(wrap('one two three', 7), ['one two', 'three'])
  t.strictSame(wrap(`a ${'n'.repeat(50)} b`, 5), ['a', 'nnn…n', 'b'])
})

t.test('durations have a unit and about three digits', async t => {
  t.strictSame(
    [0, 0.04, 0.4, 1, 9.94, 9.96, 999.4, 999.6, 1_250, 9_994, 9_996, 59_940, 59_960, 65_000, 3_599_600, 7_260_000, 1e12].map(formatDuration),
    ['0 ms', '0 ms', '0.4 ms', '1 ms', '9.9 ms', '10 ms', '999 ms', '1.00 s', '1.25 s', '9.99 s', '10.0 s', '59.9 s', '1 min', '1 min 5 s', '1 h 0 min', '2 h 1 min', '277777 h 46 min']
  )
})

t.test('labels of an axis share their unit', async t => {
  t.strictSame([0, 10, 50].map(ms => formatTick(ms, 10)), ['0', '10 ms', '50 ms'])
  t.strictSame([500, 1_000, 1_500].map(ms => formatTick(ms, 500)), ['500 ms', '1 s', '1.5 s'])
  t.equal(formatTick(120_000, 60_000), '2 min')
})

t.test('a date is shown in UTC, and anything else as nothing', async t => {
  t.strictSame(['2026-03-12T09:41:07.214Z', 'yesterday', ''].map(formatDate), ['2026-03-12 09:41:07 UTC', '', ''])
})
