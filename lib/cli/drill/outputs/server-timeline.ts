/** The timeline of the server's own report, if it logs one. */
import { readReport } from '../../../timeline/read-report'
import { renderSvg } from '../../../timeline/svg'
import { renderText } from '../../../timeline/text'

/** The timeline in two forms. */
export interface ServerTimeline {
  /** An SVG document. */
  readonly svg: string
  /** The same as text. */
  readonly text: string
}

/**
 * Draws the last shutdown in the output of the server.
 *
 * @param output what the server has printed
 * @returns `null` if there is no report in it
 */
export function drawServerTimeline (output: string): ServerTimeline | null {
  const report = readReport(output)
  return report === null ? null : { svg: renderSvg(report), text: renderText(report) }
}
