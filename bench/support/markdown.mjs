/** The results as a page. It is written whole each time, from the last result of every part. */

const intro = `# Benchmarks

Written by \`npm run bench\`; one part alone by \`npm run bench -- teardown\`. The scripts are in \`bench/\`, the raw samples in
\`benchmarks/results.json\`.

All figures are ratios of one run: what a reading is in seconds says more about the machine than about the code. A figure is
the median of its rounds, and the middle half of them in brackets. Every round measures every contender, each in a process of
its own, in an order drawn anew.
`

export function page (results) {
  const parts = Object.values(results)
  return [
    intro,
    '## What was promised, and what was measured\n',
    table(['part', 'promise', 'limit', 'measured', ''], parts.flatMap(part => part.targets.map(target => [part.title, target.what, limitOf(target), number(target.value), verdictOf(target)]))),
    ...parts.map(section)
  ].join('\n')
}

function section ({ title, tables, charts, notes, machine, quick, rounds }) {
  return [
    `## ${title}\n`,
    ...charts.map(chart => `![${chart.title}](benchmarks/${chart.file}.svg)\n`),
    ...tables.flatMap(({ title, columns, rows }) => [...(title === undefined ? [] : [`### ${title}\n`]), table(columns, rows)]),
    ...notes.map(note => `- ${note}`),
    `- Measured on ${machine.date} at ${machine.revision}${quick ? ' with too few rounds to say anything (`--quick`)' : ''}${rounds === undefined ? '' : `, ${rounds} rounds`}: ${machine.cpu}, ${machine.memory}, ${machine.system}, load average ${machine.load} at the start, Node ${machine.node} (V8 ${machine.v8}), Fastify ${machine.fastify}; ${machine.peers}.\n`
  ].join('\n')
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
  if (value === null || !Number.isFinite(value)) return 'none'
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function limitOf ({ limit, goal, atLeast }) {
  return `${atLeast ? '≥' : '≤'} ${limit}${goal === undefined ? '' : ` (goal ${goal})`}`
}

export function verdictOf ({ value, limit, goal, atLeast = false }) {
  // Not finite became null on its way through JSON: there was nothing to measure.
  const holds = bound => value !== null && Number.isFinite(value) && (atLeast ? value >= bound : value <= bound)
  if (!holds(limit)) return 'missed'
  return goal === undefined || holds(goal) ? 'holds' : 'holds, goal missed'
}
