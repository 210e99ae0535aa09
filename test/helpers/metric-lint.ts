/** Reads the text format of Prometheus, and finds the mistakes that `promtool check metrics` finds. */

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<{ readonly name: string, readonly labels: Readonly<Record<string, string>>, readonly value: number }>
}

/** Parses an exposition. Throws at a line that is not valid. */
export function parseMetrics (text: string): Family[] {
  const families: { name: string, type: string, help: string, samples: Family['samples'][number][] }[] = []
  for (const line of text.split('\n').filter(line => line !== '')) {
    const [, keyword, name, rest] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? []
    if (keyword === 'HELP') families.push({ name: name!, type: 'untyped', help: rest!, samples: [] })
    else if (keyword === 'TYPE') families.at(-1)!.type = rest!
    else {
      const [, sample, , labels = '', value] = /^([a-zA-Z_:][\w:]*)(\{(.*)\})? (\S+)$/.exec(line) ?? []
      if (sample === undefined) throw new Error(`This is no line of the text format: ${line}`)
      families.at(-1)!.samples.push({ name: sample, labels: Object.fromEntries(Array.from(labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g), ([, name, value]) => [name!, value!])), value: Number(value) })
    }
  }
  return families
}

/** The value of one series; `undefined` if there is none with exactly these labels. */
export function valueOf (text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const key = (labels: object): string => JSON.stringify(Object.entries(labels).sort())
  return parseMetrics(text).flatMap(({ samples }) => samples).find(sample => sample.name === name && key(sample.labels) === key(labels))?.value
}

const types = ['counter', 'gauge', 'histogram', 'summary', 'untyped', 'info', 'stateset']
const abbreviations = ['s', 'ms', 'us', 'ns', 'sec', 'b', 'kb', 'mb', 'gb', 'tb', 'pb', 'm', 'h', 'd']
const units = /^(?:(?:milli|micro|nano|kilo|mega|giga)(?:seconds?|bytes?|meters?|grams?)|minutes?|hours?|days?|weeks?|bits?|percent|fahrenheit)$/

/** The rules of promlint, github.com/prometheus/client_golang, prometheus/util/promlint/validations. */
export function lintMetrics (text: string): string[] {
  const families = parseMetrics(text)
  return families.flatMap(({ name, type, help, samples }, index) => {
    const words = name.split('_')
    const has = (suffix: string): boolean => name.endsWith(`_${suffix}`)
    const labels = new Set(samples.flatMap(sample => Object.keys(sample.labels)))
    const problems: [boolean, string][] = [
      [help === '', 'no help text'],
      [type === 'untyped', 'no type'],
      [type === 'counter' && !has('total'), 'counters have "_total" at their end'],
      [type !== 'counter' && has('total'), 'only counters have "_total" at their end'],
      [type !== 'histogram' && has('bucket'), 'only histograms have "_bucket" at their end'],
      [type !== 'histogram' && type !== 'summary' && (has('count') || has('sum')), 'only histograms and summaries have "_count" or "_sum" at their end'],
      [type !== 'histogram' && labels.has('le'), 'only histograms have the label "le"'],
      [type !== 'summary' && labels.has('quantile'), 'only summaries have the label "quantile"'],
      [words.some(word => types.includes(word)), 'a type is in the name'],
      [name.includes(':'), 'colons are for recording rules'],
      [/[a-z][A-Z]/.test(name) || [...labels].some(label => /[a-z][A-Z]/.test(label)), 'names are in snake_case'],
      [words.some(word => abbreviations.includes(word)), 'units are not abbreviated'],
      [words.some(word => units.test(word)), 'units are base units'],
      [families.findIndex(family => family.name === name) !== index, 'two metrics have this name']
    ]
    return problems.filter(([found]) => found).map(([, problem]) => `${name}: ${problem}`)
  })
}
