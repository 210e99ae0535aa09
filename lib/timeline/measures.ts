/** The measures of a picture on a wide and on a narrow screen. */

/** Measures of a picture, in pixels. */
export interface Measures {
  readonly width: number
  /** Left and right end of the plot. */
  readonly left: number
  readonly right: number
  /** Height of a row, and of the bar in it. */
  readonly row: number
  readonly bar: number
  /** Distance from the top of a row to the top of its bar, and to the baseline of its text. */
  readonly barAt: number
  readonly textAt: number
  /** Right end of the durations, and left end of the outcomes. */
  readonly durationAt: number
  readonly outcomeAt: number | null
  /** Most characters of a name. */
  readonly name: number
  /** How many labels the axis has. */
  readonly ticks: number
}

/** Names are at the left of the bars, times and outcomes at the right. */
export const wide: Measures = {
  width: 960,
  left: 232,
  right: 806,
  row: 22,
  bar: 12,
  barAt: 5,
  textAt: 15,
  durationAt: 876,
  outcomeAt: 886,
  name: 30,
  ticks: 8
}

/** Names, times and outcomes are above the bars. */
export const narrow: Measures = {
  width: 358,
  left: 0,
  right: 358,
  row: 36,
  bar: 11,
  barAt: 20,
  textAt: 14,
  durationAt: 358,
  outcomeAt: null,
  name: 30,
  ticks: 4
}

/** A part of a picture, which begins at y = 0. */
export interface Drawing {
  readonly elements: readonly string[]
  readonly height: number
}

/** Returns the position of a time, rounded to a tenth of a pixel. */
export type Scale = (ms: number) => number

/** Rounds to a tenth of a pixel. */
export function round (pixels: number): number {
  return Math.round(pixels * 10) / 10
}
