/** Each mutation is possible: its line is in `lib/` once, its test exists, and there are enough of them in each wing. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { linesOf, placeOf } from './apply'
import { mutations } from './list'

const root = join(__dirname, '../..')

t.test('each mutation changes one line of lib/', async t => {
  for (const mutation of mutations) {
    const { file, line, becomes, test } = mutation
    const lines = linesOf(readFileSync(join(root, 'lib', file), 'utf8'))
    t.not(placeOf(lines, mutation), -1, `${file} has this line once: ${line}`)
    t.not(line, becomes)
    if (test !== undefined) t.ok(existsSync(join(root, test)), test)
  }
})

t.test('there are mutations in each wing', async t => {
  for (const wing of ['lifecycle/', 'http/', 'http/drains/', 'resources/', 'process/', 'times.ts']) {
    t.ok(mutations.filter(({ file }) => file.startsWith(wing)).length >= 2, wing)
  }
  t.ok(mutations.length >= 24, `${mutations.length}`)
})
