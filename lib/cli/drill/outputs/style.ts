/** The style of the page, for light and dark screens and for print. */

/** The style sheet. */
export const style = `
:root { color-scheme: light dark; --text: #1c2430; --soft: #566070; --page: #fff; --line: #d9dee6; --panel: #f5f7fa;
  --good: #17663a; --bad: #a3201f;
  --answered: #5aa57a; --rejected: #5b8fd6; --refused: #b4bcc8;
  --apart: #8e7cc3; --warn: #e08a1e; --lost: #d13b3b; --lost2: #8f1d1d }
@media (prefers-color-scheme: dark) { :root { --text: #e6eaf0; --soft: #a3adbb;
  --page: #14181f; --line: #333c48; --panel: #1c222b;
  --good: #7bd3a0; --bad: #ff9a94;
  --answered: #4f9a70; --rejected: #5b8fd6; --refused: #5d6775;
  --apart: #9a88d0; --warn: #e39a3c; --lost: #f0605c; --lost2: #b93a3a } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } p { margin: .25rem 0 }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
.passed { color: var(--good) }
.failed { color: var(--bad) }
.soft, .caption { color: var(--soft) }
.caption { font-size: .85rem }
.reasons { padding: 0; list-style: none }
.reasons li { border-left: 4px solid var(--bad); background: var(--panel); padding: .5rem .75rem; margin: .5rem 0 }
.scroll { overflow-x: auto }
pre { overflow-x: auto; background: var(--panel); padding: .75rem; font: .8rem/1.35 ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
caption { text-align: left; color: var(--soft); font-size: .85rem }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); font-weight: normal }
thead th { color: var(--soft) }
.number { text-align: right; font-variant-numeric: tabular-nums }
svg, .timeline { display: block; width: 100%; min-width: 38rem; height: auto }
td { white-space: nowrap }
th[scope=row] { min-width: 6rem }
td:last-child { white-space: normal; min-width: 12rem }
.number:last-child { min-width: 0 } .grid { stroke: var(--line) } .axis { fill: var(--soft); font-size: 12px }
.mark { stroke: var(--text); stroke-width: 1.5 }
.mark.end { stroke-dasharray: 4 3 }
.label { fill: var(--text); font-size: 12px }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; margin: .25rem 0; font-size: .85rem }
.legend span { display: inline-block; width: .75rem; height: .75rem; margin-right: .4rem; border-radius: 2px }
.answered { fill: var(--answered); background: var(--answered) }
.rejected { fill: var(--rejected); background: var(--rejected) }
.refused, .unfinished { fill: var(--refused); background: var(--refused) }
.retried, .acceptQueue { fill: var(--apart); background: var(--apart) }
.rejectedWithoutRetryAfter { fill: var(--warn); background: var(--warn) }
.resetBefore, .hung { fill: var(--lost); background: var(--lost) }
.resetAfter, .truncated { fill: var(--lost2); background: var(--lost2) }
@media print { body { margin: 0; max-width: none } .legend span, svg * { print-color-adjust: exact } }
`
