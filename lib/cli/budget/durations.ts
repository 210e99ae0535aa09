/** Parses durations of systemd and Go into milliseconds. Each function returns `null` if the text is not valid. */

const systemdUnits: ReadonlyMap<string, number> = new Map(([
  [0.001, ['us', 'usec']], [1, ['ms', 'msec']], [1e3, ['', 's', 'sec', 'second', 'seconds']],
  [6e4, ['m', 'min', 'minute', 'minutes']], [36e5, ['h', 'hr', 'hour', 'hours']], [864e5, ['d', 'day', 'days']]
] as const).flatMap(([ms, names]) => names.map(name => [name, ms] as const)))

const goUnits: ReadonlyMap<string, number> = new Map([['us', 0.001], ['ms', 1], ['s', 1e3], ['m', 6e4], ['h', 36e5]])

/** Parses a time span of systemd.time(7): `90`, `1min 30s`, `2.5h`. */
export function parseSystemdTimeSpan (text: string): number | null {
  return addUp(text, systemdUnits)
}

/** Parses a duration of Go, the format of compose files: `1m30s`, `500ms`. */
export function parseGoDuration (text: string): number | null {
  return addUp(text, goUnits)
}

function addUp (text: string, units: ReadonlyMap<string, number>): number | null {
  // One part at a time: a single expression for the whole text would try every way to divide the digits into parts.
  const part = /\s*(\d+(?:\.\d+)?)\s*([a-z]*)/y
  const trimmed = text.trim()
  if (trimmed === '') return null
  let total = 0
  while (part.lastIndex < trimmed.length) {
    const [, count, unit = ''] = part.exec(trimmed) ?? []
    if (count === undefined) return null
    total += Number(count) * (units.get(unit) ?? NaN)
  }
  return Number.isFinite(total) ? total : null
}
