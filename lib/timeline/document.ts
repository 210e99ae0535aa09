/** The frame of an HTML page without a script: its content security policy forbids everything but its style sheet. */
import { createHash } from 'node:crypto'
import { escape } from './plain-text'

/** The parts of a page. */
export interface Page {
  /** As text. */
  readonly title: string
  /** The style sheet. */
  readonly style: string
  /** The content of the body, as HTML. */
  readonly body: string
  /** Whether the page contains images, as data in their URLs. @default false */
  readonly hasImages?: boolean
}

/** Renders a page. It loads nothing, and uses the colour scheme of the browser, light or dark. */
export function renderDocument ({ title, style, body, hasImages = false }: Page): string {
  const hash = createHash('sha256').update(style).digest('base64')
  const images = hasImages ? ' img-src data:;' : ''
  const policy = `default-src 'none'; style-src 'sha256-${hash}';${images} base-uri 'none'; form-action 'none'`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${escape(title)}</title>
<style>${style}</style>
</head>
<body>
${body}
</body>
</html>
`
}
