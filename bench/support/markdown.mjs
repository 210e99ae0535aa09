/** Writes the results as a page. The whole page is written each time, from the last result of every part. */

const intro = `# Benchmarks

\`npm run bench\` writes this page, and \`npm run bench -- teardown\` measures one part alone. The scripts are in
\`bench/\`, and the figures of the tables and charts are in \`benchmarks/results.json\`.

- If no unit is named, a figure is a ratio within the same run, because times depend more on the machine than on the
  code. *A against B* is A divided by B, and *B = 1* means that the figures are divided by B.
- A figure is the median of its rounds. The middle half of the rounds is in parentheses.
- A contender is one package with its settings. Every round measures every contender, each in its own process, in a
  random order.
`

export function page (results) {
  const parts = Object.values(results)
  return [
    intro,
    '## Promises\n',
    table(['part', 'promise', 'limit', 'measured', ''], parts.flatMap(part => part.targets.map(target => [part.title, target.what, limitOf(target), number(target.value), verdictOf(target, part.quick)]))),
    ...parts.map(section),
    '## Measured on\n',
    ...machines(parts)
  ].join('\n')
}

function section ({ title, tables, charts, notes, machine, quick, rounds, seconds }) {
  return [
    `## ${title}\n`,
    ...charts.map(chart => `![${chart.title}](benchmarks/${chart.file}.svg)\n`),
    ...tables.flatMap(({ title, columns, rows }) => [...(title === undefined ? [] : [`### ${title}\n`]), table(columns, rows)]),
    ...notes.map(note => `- ${note}`),
    `- ${machine.date}, revision ${machine.revision}${quick ? ', with too few rounds for a result (`--quick`)' : ''}, rounds: ${rounds ?? 'unknown'}, load average ${machine.load} at the start${seconds === undefined ? '' : `, took ${seconds} s`}.\n`
  ].join('\n')
}

/** Names a machine once if all parts were measured on it. */
function machines (parts) {
  const titles = new Map()
  for (const { title, machine: { cpu, memory, system, node, v8, fastify, peers } } of parts) {
    const words = `${cpu}, ${memory}, ${system}, Node ${node} (V8 ${v8}), Fastify ${fastify}; ${peers}.`
    titles.set(words, [...titles.get(words) ?? [], title])
  }
  return [...titles].map(([words, of]) => `${titles.size === 1 ? '' : `${of.join('; ')}: `}${words}\n`)
}

function table (columns, rows) {
  const line = cells => `| ${cells.join(' | ')} |`
  return [line(columns), line(columns.map(() => '---')), ...rows.map(row => line(row.map(cell))), ''].join('\n')
}

function cell (value) {
  if (typeof value === 'number') return number(value)
  if (value === null || typeof value !== 'object') return String(value)
  return value.n === 1 ? number(value.median) : `${number(value.median)} (${number(value.low)} – ${number(value.high)})`
}

function number (value) {
  if (value === null || !Number.isFinite(value)) return 'no reading'
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function limitOf ({ limit, goal, atLeast }) {
  return `${atLeast ? '≥' : '≤'} ${limit}${goal === undefined ? '' : ` (goal ${goal})`}`
}

export function verdictOf ({ value, limit, goal, atLeast = false }, quick) {
  if (quick) return 'no result (`--quick`)'
  // JSON has changed a value that is not finite to null: there was nothing to measure.
  const holds = bound => value !== null && Number.isFinite(value) && (atLeast ? value >= bound : value <= bound)
  if (!holds(limit)) return 'missed'
  return goal === undefined || holds(goal) ? 'holds' : 'holds, goal missed'
}
