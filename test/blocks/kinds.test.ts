/** Every code block of the pages has a kind, and a test that runs it. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { blocksOf, fileName, kindOf, pages, testOf, type Kind } from '../helpers/blocks'

const root = join(__dirname, '../..')
const blocks = pages.flatMap(page => blocksOf(page))

t.test('every code block has a kind, and a test that runs it', async t => {
  const counts: Partial<Record<Kind, number>> = {}
  for (const block of blocks) {
    const kind = kindOf(block)
    counts[kind] = (counts[kind] ?? 0) + 1
    const test = testOf(block)
    if (test === undefined) continue
    t.ok(existsSync(join(root, test)), `${block.place}: ${kind}, ${test}`)
    const named = test.startsWith('test/blocks/') || readFileSync(join(root, test), 'utf8').includes(block.page.split('/').at(-1)!)
    t.ok(named || test === 'test/testing/docs.test.ts', `${test} reads ${block.page}`)
    if (test !== 'test/newcomer.test.ts') continue
    const source = readFileSync(join(root, test), 'utf8')
    const lines = kind === 'commands' ? block.code.trim().split('\n') : [fileName(block)!]
    for (const line of lines) t.ok(source.includes(`('${block.page}', '${line}')`), `${test} runs ${line}`)
  }
  t.comment(JSON.stringify(counts))
})

t.test('every fence belongs to a block, also an indented one', async t => {
  for (const page of pages) {
    const fences = readFileSync(join(root, page), 'utf8').match(/^[ >]*(?:```|~~~)/gm) ?? []
    t.equal(fences.length, 2 * blocksOf(page).length, page)
  }
})

t.test('few blocks are not run, each for a reason', async t => {
  const notRun = blocks.filter(({ notRun }) => notRun !== undefined)
  t.ok(notRun.length <= 3, notRun.map(({ place, notRun: reason }) => `${place}: ${reason}`).join('\n'))
  for (const { place, notRun: reason } of notRun) t.match(reason, /\w+ \w+/, place)
})

t.test('a block in a language without a rule, and an output that no test compares, are errors', async t => {
  const [unknown, output] = blocksOf('docs/x.md', '```rust\nfn\n```\n\n```text\nlog\n```\n')
  t.throws(() => kindOf(unknown!), { message: "docs/x.md:1: no rule for the language 'rust'" })
  t.throws(() => testOf(output!), { message: 'docs/x.md:5: no test compares this output' })
  const [marked] = blocksOf('docs/x.md', '<!-- not run: needs a cluster -->\n```rust\nfn\n```\n')
  t.equal(kindOf(marked!), 'not run')
})
