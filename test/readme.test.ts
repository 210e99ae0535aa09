/** README.zh-CN.md has the same code, headings, tables and links as README.md. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const read = (file: string): string => readFileSync(join(__dirname, '..', file), 'utf8')
const english = read('README.md')
const chinese = read('README.zh-CN.md')

const code = /^```.*?^```$/gms
const all = (text: string, pattern: RegExp): string[] => text.match(pattern) ?? []
const prose = (text: string): string => text.replace(code, '')

t.test('the code blocks are equal', async t => {
  t.ok(all(english, code).length > 10)
  t.strictSame(all(chinese, code), all(english, code))
})

t.test('the headings have the same levels, and those of code the same text', async t => {
  const headings = (text: string): string[] => all(prose(text), /^#+ .*/gm).map(line => /`/.test(line) ? line : line.split(' ')[0]!)
  t.strictSame(headings(chinese), headings(english))
})

t.test('the tables have the same rows: their first cells of code are equal', async t => {
  const rows = (text: string): string[] => all(prose(text), /^\|.*/gm).map(line => line.split(' | ')[0]!.replace(/^\| /, ''))
    .map(cell => /^\[?`[^`]+`(?:\]\(.*\))?$/.test(cell) ? cell : '')
  t.strictSame(rows(chinese), rows(english))
})

t.test('the links are equal, but for the link to the other language', async t => {
  const links = (text: string): string[] => all(prose(text), /(?<=\]\()[^)]+/g).filter(link => !/^README/.test(link)).sort()
  t.strictSame(links(chinese), links(english))
})

t.test('each number and each name in code is in both', async t => {
  const names = (text: string): string[] => [...new Set(all(prose(text), /`[^`]+`/g))].sort()
  t.strictSame(names(chinese), names(english))
})
