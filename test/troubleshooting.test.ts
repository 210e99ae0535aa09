/** docs/troubleshooting.md has an entry for every line that the plugin can log and for every error code, and no other. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { logLines } from './helpers/log-lines'

const root = join(__dirname, '..')
const headings = [...readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8').matchAll(/^### (`+) ?(.+?) ?\1$/gm)].map(match => match[2]!)

/** Lines with an entry for each outcome. */
const variants: Readonly<Record<string, readonly string[]>> = {
  "shutdown: … '…' …": [
    ...['closed', 'failed', 'forced', 'abandoned'].map(outcome => `shutdown: resource '…' ${outcome}`),
    ...['closed', 'failed', 'abandoned'].map(outcome => `shutdown: hook '…' ${outcome}`)
  ],
  "shutdown: task '…' …": ['completed', 'cancelled', 'failed', 'abandoned'].map(outcome => `shutdown: task '…' ${outcome}`),
  'shutdown: … in … ms: …': [] // The same entry as without counts.
}

function entriesFor (lines: readonly string[]): string[] {
  const codes = [...readFileSync(join(root, 'lib/errors.ts'), 'utf8').matchAll(/'(FST_ERR_SHUTDOWN_\w+)'/g)].map(match => match[1]!)
  return [...new Set([...lines.flatMap(line => variants[line] ?? [line]), ...codes])].sort()
}

t.test('every line that can be logged and every error code has an entry, and there is no other entry', async t => {
  t.strictSame([...headings].sort(), entriesFor(logLines()))
})

t.test('a new line is found: of a log, a problem, a note, a warning and a forced exit', async t => {
  const added = logLines({
    'plugin.ts': `
      app.log.warn({ shutdown }, \`a new line with \${name}\`)
      onProblem('a new problem', error)
      notes.push('a new note')
      warnings.add('a new ' + 'warning')
      const settings = { warnings: [\`a second \${warning}\`] }
      reportForcedExit('a new exit')`
  })
  for (const line of [
    'a new line with …', 'shutdown: a new problem', 'shutdown: a new note', 'a new warning', 'a second …', 'shutdown: a new exit'
  ]) t.ok(added.includes(line), line)
})
