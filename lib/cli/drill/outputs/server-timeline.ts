/** The place of the report's timeline in the page. */

/**
 * Draws the timeline of the last shutdown report in the output of the server. The page shows it as an image.
 *
 * @param _output what the server has printed
 * @returns an SVG document; empty if there is no report
 */
export function drawServerTimeline (_output: string): string {
  return ''
}
