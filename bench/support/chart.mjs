/** Horizontal bars with whiskers, as SVG. No library is needed for a picture of fifteen numbers. */
const room = 420
/** Width of a character at this size, and a little more, because the reader's font may be wider. */
const characterWidth = 7.4
const rowHeight = 26
const top = 44

/**
 * @param chart.bars `{ label, value, low, high }`, or `{ label, text }` for a bar without a number
 * @param chart.from where the axis begins, default 0 (with `log`: a tenth below the least)
 * @param chart.log logarithmic axis
 */
export function draw ({ title, bars, from = 0, log = false, unit = '×' }) {
  const numbers = bars.filter(bar => Number.isFinite(bar.value)).flatMap(bar => [bar.value, bar.low ?? bar.value, bar.high ?? bar.value])
  const start = log ? Math.min(...numbers) / 1.1 : Math.min(from, ...numbers)
  const end = Math.max(...numbers, start + 0.01) * (log ? 1.1 : 1.02)
  const labelWidth = 24 + characterWidth * Math.max(...bars.map(bar => bar.label.length))
  const valueWidth = 24 + characterWidth * Math.max(0, ...bars.filter(bar => Number.isFinite(bar.value)).map(bar => valueOf(bar, unit).length))
  const width = Math.ceil(Math.max(labelWidth + room + valueWidth, 24 + 1.2 * characterWidth * (title.length + 18)))
  const place = value => labelWidth + room * (log ? Math.log(value / start) / Math.log(end / start) : (value - start) / (end - start))
  const height = top + bars.length * rowHeight + 16
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="${escape(title)}">`,
    // A white background, because dark text is not readable on a dark page.
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="12" y="24" font-size="15" font-weight="600" fill="#222">${escape(title)}${log ? ' (logarithmic)' : start > 0 ? ` (axis from ${start.toFixed(1)})` : ''}</text>`
  ]
  if (start < 1 && end > 1 && unit !== '') lines.push(`<line x1="${at(1)}" x2="${at(1)}" y1="${top - 6}" y2="${height - 12}" stroke="#999" stroke-dasharray="3 3"/>`)
  bars.forEach((bar, i) => {
    const y = top + i * rowHeight
    const middle = y + rowHeight / 2
    lines.push(`<text x="${labelWidth - 8}" y="${middle + 4}" text-anchor="end" fill="#222">${escape(bar.label)}</text>`)
    if (!Number.isFinite(bar.value)) {
      lines.push(`<text x="${labelWidth + 4}" y="${middle + 4}" fill="#a33" stroke="#fff" stroke-width="4" paint-order="stroke">${escape(bar.text ?? 'no reading')}</text>`)
      return
    }
    const colour = bar.label.startsWith('fastify-shutdown') ? '#2b7a4b' : '#7d8ea3'
    lines.push(`<rect x="${labelWidth}" y="${y + 5}" width="${Math.max(1, at(bar.value) - labelWidth).toFixed(1)}" height="${rowHeight - 10}" fill="${colour}"/>`)
    if (bar.low !== undefined) lines.push(`<path d="M${at(bar.low)} ${middle}H${at(bar.high)}M${at(bar.low)} ${middle - 4}v8M${at(bar.high)} ${middle - 4}v8" stroke="#222" fill="none"/>`)
    lines.push(`<text x="${labelWidth + room + 12}" y="${middle + 4}" fill="#222">${valueOf(bar, unit)}</text>`)
  })
  return `${[...lines, '</svg>'].join('\n')}\n`

  function at (value) {
    return Number(place(value).toFixed(1))
  }
}

function valueOf ({ value, low, high }, unit) {
  const figure = number => number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0)
  return `${figure(value)}${unit}${low === undefined ? '' : ` (${figure(low)} – ${figure(high)})`}`
}

function escape (text) {
  // A label is also Markdown, and an SVG cannot show code.
  return String(text).replaceAll('`', '').replace(/[&<>"]/g, sign => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign])
}
