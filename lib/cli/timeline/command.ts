/** `fastify-shutdown timeline`: draws the report of the last shutdown in a file or in a log. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { renderHtml } from '../../timeline/html'
import { clean } from '../../timeline/plain-text'
import { findReport } from '../../timeline/read-report'
import type { ReportData } from '../../timeline/report-data'
import { renderSvg } from '../../timeline/svg'
import { renderText } from '../../timeline/text'
import { UsageError, type Command, type Output, type Terminal } from '../command'
import { writeFiles } from '../write-files'

const usage = `Usage: fastify-shutdown timeline [FILE] [--html FILE] [--svg FILE]

Draws the report of the last shutdown in a file.

FILE      a report as JSON, or a log of pino with one JSON object per line. Other lines are ignored.
          Without FILE, or with -, standard input is read (kubectl logs … | fastify-shutdown timeline)
--html    writes a page without scripts that needs no network; - is standard output
--svg     writes a picture; - is standard output

Without --html and --svg the timeline is printed as text, with colours on a terminal (unless NO_COLOR is set).

Exit code: 0 if the timeline is drawn, 2 if there is no report.
`

/** The command. Exit code 0 if the timeline is drawn. */
export const timeline: Command = {
  usage,
  async run (args, { stdin, stdout }) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { html: { type: 'string' }, svg: { type: 'string' } }
    })
    const [file = '-', ...others] = positionals
    if (others.length > 0) throw new UsageError('expected one file')
    const files = outputs(file, values)
    if (file === '-' && (stdin === undefined || stdin.isTTY === true)) {
      throw new UsageError('expected a file, or a log on standard input')
    }

    const report = await read(file, stdin)
    if (files.length === 0) stdout.write(renderText(report, textOptions(stdout)))
    const rendered = files.map(({ name, render }) => ({ name, content: render(report) }))
    for (const { content } of rendered.filter(({ name }) => name === '-')) stdout.write(content)
    await writeFiles(rendered.filter(({ name }) => name !== '-'))
    return 0
  }
}

interface RenderedFile {
  readonly name: string
  readonly render: (report: ReportData) => string
}

/** Returns the files to write. @throws UsageError if one of them would replace another one, or the input */
function outputs (input: string, { html, svg }: { html?: string, svg?: string }): RenderedFile[] {
  const files = [
    ...(html === undefined ? [] : [{ name: html, render: renderHtml }]),
    ...(svg === undefined ? [] : [{ name: svg, render: renderSvg }])
  ]
  if (files.some(({ name }) => name === '')) throw new UsageError('expected the name of a file')
  const names = [...(input === '-' ? [] : [input]), ...files.map(({ name }) => name)]
    .map(name => name === '-' ? name : resolve(name))
  if (new Set(names).size < names.length) throw new UsageError('expected different files')
  return files
}

/** @throws an error of one line, which names the file */
async function read (file: string, stdin: Terminal['stdin']): Promise<ReportData> {
  const name = file === '-' ? 'standard input' : file
  let found: ReportData | string
  try {
    found = findReport(file === '-' ? await text(stdin!) : await readFile(file, 'utf8'))
  } catch (error) {
    found = error instanceof Error ? error.message : String(error)
  }
  if (typeof found === 'string') throw new Error(clean(`${name}: ${found}`))
  return found
}

/** Chooses colours by the terminal. Any NO_COLOR but the empty string turns them off: https://no-color.org. */
function textOptions ({ isTTY = false, columns }: Output): { color: boolean, width?: number } {
  const { NO_COLOR, TERM } = process.env
  const color = isTTY && (NO_COLOR === undefined || NO_COLOR === '') && TERM !== 'dumb'
  return columns === undefined || columns === 0 ? { color } : { color, width: columns }
}
