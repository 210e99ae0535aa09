/** The page of `status-page.ts`: one document without any other file. */

/** Returns the page. @param events the URL of the events */
export function html (events: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Status: running</title>
<style>${style}</style>
<main>
<h1>Status of this service</h1>
<ol id="phases" aria-label="Phases">
${phases.map(phase => `<li id="${phase}">${phase}</li>`).join('\n')}
</ol>
<p id="message" role="status">Waiting for the first event.</p>
<dl>
${counts.map(([id, label]) => `<div><dt>${label}</dt><dd id="${id}">-</dd></div>`).join('\n')}
</dl>
<h2>Tasks, hooks and resources that are over</h2>
<table>
<thead><tr><th scope="col">Name</th><th scope="col">Kind</th><th scope="col">Outcome</th><th scope="col">Took</th></tr></thead>
<tbody id="steps"></tbody>
</table>
</main>
<script>${script.replace('EVENTS', JSON.stringify(events))}</script>
</html>
`
}

const phases = ['running', 'lame-duck', 'draining', 'cleaning', 'shutdown'] as const

const counts = [
  ['activeRequests', 'Requests'], ['activeStreams', 'Streams'], ['activeWebSockets', 'WebSockets'], ['activeTasks', 'Tasks'],
  ['rejected', 'Rejected'], ['remaining', 'Seconds left']
] as const

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; background: light-dark(#fff, #14181d); color: light-dark(#1c2430, #e6eaf0); }
main { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
ol { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none; }
ol li { padding: .25rem .75rem; border-radius: 1rem; background: light-dark(#edf1f5, #232a33); }
ol li[aria-current] { background: light-dark(#1d5fbf, #7fb2ff); color: light-dark(#fff, #10141a); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
dt { font-size: .85rem; color: light-dark(#566273, #a3adba); }
dd { margin: 0; font-size: 1.75rem; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; padding: .4rem .5rem; border-bottom: 1px solid light-dark(#dfe5eb, #2c343e); }
th { font-weight: 600; font-size: .85rem; color: light-dark(#566273, #a3adba); }
`

const script = `
const element = id => document.getElementById(id)
const show = (id, text) => { element(id).textContent = text }
const source = new EventSource(EVENTS)
const seen = new Set()

function showPhase (phase) {
  for (const item of element('phases').children) {
    if (item.id === phase) item.setAttribute('aria-current', 'step')
    else item.removeAttribute('aria-current')
  }
  document.title = 'Status: ' + phase
}

source.addEventListener('state', ({ data }) => {
  const state = JSON.parse(data)
  showPhase(state.phase)
  for (const id of ['activeRequests', 'activeStreams', 'activeWebSockets', 'activeTasks']) show(id, state[id])
  show('rejected', state.stats.rejected)
  show('remaining', state.remaining === null ? '-' : Math.ceil(state.remaining / 1000))
  show('message', state.reason === null ? 'The service is running.' : 'The shutdown began: ' + state.reason.kind + ' ' + state.reason.detail)
})

source.addEventListener('step', ({ data }) => {
  if (seen.has(data)) return
  seen.add(data)
  const event = JSON.parse(data)
  if (event.type === 'phase') return showPhase(event.phase)
  const { name, hook, outcome, durationMs } = event.result
  const row = element('steps').insertRow()
  for (const text of [name, hook ?? event.type, outcome, Math.round(durationMs) + ' ms']) row.insertCell().textContent = text
})

source.addEventListener('over', () => {
  source.close()
  showPhase('shutdown')
  show('message', 'Everything has closed. The process exits.')
})
`
