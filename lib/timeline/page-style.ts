/** The style sheet of the page. */
import { colours, mono, pictureStyle, sans } from './theme'

const names = ['paper', 'ink', 'muted', 'line', 'band', 'good', 'forced', 'failed', 'critical'] as const

/** Colours are variables, so that a dark screen changes them in one place. Printed pages are always light. */
export const pageStyle = `
:root{color-scheme:light dark;${variables(0)}}
@media screen and (prefers-color-scheme:dark){:root{${variables(1)}}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 ${sans}}
main{max-width:1040px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:24px;line-height:1.25;margin:0}
h2{font-size:17px;margin:40px 0 10px}
.good{color:var(--good)}
.forced{color:var(--forced)}
.failed{color:var(--failed)}
.beginning,.hint,dt{color:var(--muted)}
.beginning{margin:6px 0 0;overflow-wrap:anywhere}
.hint{font-size:13px;margin:-6px 0 16px}
.summary{margin:22px 0 0;padding:14px 16px;background:var(--band);border-radius:6px}
.summary div{display:flex;gap:12px;padding:2px 0}
dt{flex:0 0 104px}
dd{margin:0;min-width:0;overflow-wrap:anywhere}
ul{margin:0;padding:0;list-style:none}
li{padding:6px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
code{font:13px ${mono};overflow-wrap:anywhere}
.scroll{overflow-x:auto}
:focus-visible{outline:2px solid var(--critical);outline-offset:2px}
table{border-collapse:collapse;min-width:60%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:6px 24px 6px 0;border-bottom:1px solid var(--line);font-weight:400}
thead th{color:var(--muted);font-size:13px;white-space:nowrap}
tbody th{min-width:200px;max-width:380px}
td.number{white-space:nowrap;font-variant-numeric:tabular-nums}
summary{cursor:pointer}
summary h2{display:inline-block;margin-bottom:8px}
svg.timeline{display:block;width:100%;height:auto}
svg.narrow{display:none}
@media screen and (max-width:760px){
main{padding:24px 16px 48px}
h1{font-size:21px}
svg.wide{display:none}
svg.narrow{display:block;max-width:480px}
.summary div{display:block}
tbody th{min-width:112px}
th,td{padding-right:14px}
}
@media print{
main{max-width:none;padding:0}
section,tr{break-inside:avoid}
section:has(table){break-inside:auto}
.scroll{overflow:visible}
}
${pictureStyle}
`

function variables (index: 0 | 1): string {
  return names.map(name => `--${name}:${colours[name][index]}`).join(';')
}
