/** The colours of the picture and the page, for a light and a dark screen. Text has a contrast of at least 4.5. */
import type { Bar } from './layout'

/** Name of a colour -> its value on a light and on a dark screen. */
export const colours = {
  paper: ['#ffffff', '#14181f'],
  ink: ['#1c2430', '#e4e9f0'],
  muted: ['#566272', '#9aa8b8'],
  line: ['#dde3ea', '#2b3440'],
  band: ['#f3f6f9', '#1a2029'],
  phase: ['#c3ccd7', '#3b4756'],
  bar: ['#9fb0c4', '#566a83'],
  critical: ['#2864c8', '#6ba4ff'],
  forced: ['#9a5b00', '#e5a13c'],
  failed: ['#c62f2f', '#ff7a70'],
  good: ['#1f7a4d', '#5cc38e'],
  requests: ['#4f9a94', '#3f8f89'],
  streams: ['#86bfb9', '#2f6f6b'],
  webSockets: ['#bfdfdb', '#224f4d']
} as const satisfies Readonly<Record<string, readonly [light: string, dark: string]>>

/** Returns the name of a bar's colour: the outcome comes before the critical path. */
export function fillOf ({ kind, severity, isCritical }: Bar): keyof typeof colours {
  if (kind === 'phase') return 'phase'
  if (severity !== 'good') return severity
  return isCritical ? 'critical' : 'bar'
}

/** Fonts that need no network. */
export const sans = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif'
export const mono = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'

/** The style sheet of a picture, for its classes below `.timeline`. Printed pages are always light. */
export const pictureStyle = [
  // The outline keeps a text readable where a line crosses it.
  `.timeline text{font:12px ${sans};fill:${colours.ink[0]};stroke:${colours.paper[0]};stroke-width:3px;` +
  'stroke-linejoin:round;paint-order:stroke}',
  '.timeline .title{font-size:18px;font-weight:600}',
  '.timeline .group,.timeline .strong{font-weight:600}',
  `.timeline .name{font-family:${mono};white-space:pre}`,
  '.timeline .end{text-anchor:end;font-variant-numeric:tabular-nums}',
  '.timeline .middle{text-anchor:middle}',
  '.timeline .stroke{fill:none}',
  ...shades(0),
  '@media screen and (prefers-color-scheme:dark){',
  `.timeline text{fill:${colours.ink[1]};stroke:${colours.paper[1]}}`,
  ...shades(1),
  '}'
].join('\n')

function shades (index: 0 | 1): string[] {
  return Object.entries(colours).flatMap(([name, values]) => [
    `.timeline .${name}{fill:${values[index]}}`,
    `.timeline .stroke.${name}{fill:none;stroke:${values[index]}}`
  ])
}
