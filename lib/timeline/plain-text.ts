/** Makes any string safe to show, and measures and shortens strings in cells of a terminal. */

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' })

/** Control characters, parts of broken surrogate pairs, and characters that change the direction of the text. */
const unsafe = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff]/gu

/** Returns the text on one line: white space becomes a space, and each unsafe character becomes U+FFFD. */
export function clean (text: string): string {
  return text.replace(/[\t\n\v\f\r]+/g, ' ').replace(unsafe, '\ufffd')
}

/** Escapes a text for HTML and XML, on one line. The result is safe in an element and in a quoted attribute. */
export function escape (text: string): string {
  return clean(text).replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}

/**
 * Shortens the text to a number of cells, with an ellipsis in the middle: names often differ at their end. The result
 * is clean.
 */
export function shorten (text: string, cells: number): string {
  // A text of any length costs no more than a short one.
  const isLong = text.length > 1_000
  const whole = isLong ? [] : [...split(clean(text))]
  if (!isLong && sum(whole) <= cells) return whole.map(({ segment }) => segment).join('')
  if (cells < 1) return ''
  const head = isLong ? [...split(clean(text.slice(0, 500)))] : whole
  const tail = isLong ? [...split(clean(text.slice(-500)))] : whole
  const atEnd = Math.floor((cells - 1) / 3)
  return `${take(head, cells - 1 - atEnd)}…${take(tail.toReversed(), atEnd, true)}`
}

/** Returns the width of a clean text in cells: 2 for a character of East Asia or an emoji, 0 for a mark alone. */
export function cellsOf (text: string): number {
  return sum([...split(text)])
}

/** Returns the text with spaces behind it, so that it has this number of cells. */
export function pad (text: string, cells: number): string {
  return text + ' '.repeat(Math.max(0, cells - cellsOf(text)))
}

/** Breaks a text into lines of at most this number of cells, between words if possible. */
export function wrap (text: string, cells: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of clean(text).split(' ').map(word => shorten(word, cells))) {
    if (line !== '' && cellsOf(line) + 1 + cellsOf(word) > cells) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line]
}

interface Piece {
  readonly segment: string
  readonly cells: number
}

function * split (text: string): Generator<Piece> {
  for (const { segment } of graphemes.segment(text)) yield { segment, cells: cellsOfGrapheme(segment) }
}

/** The blocks of wide characters (Unicode Standard Annex 11, East Asian Width W and F). */
const wide = new RegExp('^[' +
  '\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4cf\\ua960-\\ua97f\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe30-\\ufe6f' +
  '\\uff01-\\uff60\\uffe0-\\uffe6\\u{17000}-\\u{18cff}\\u{1b000}-\\u{1b2ff}\\u{20000}-\\u{3fffd}' +
']', 'u')

function cellsOfGrapheme (grapheme: string): number {
  if (/^[\p{M}\p{Cf}]+$/u.test(grapheme)) return 0
  return wide.test(grapheme) || /^\p{Emoji_Presentation}|\ufe0f/u.test(grapheme) ? 2 : 1
}

function sum (pieces: readonly Piece[]): number {
  return pieces.reduce((cells, piece) => cells + piece.cells, 0)
}

function take (pieces: readonly Piece[], cells: number, isReversed = false): string {
  const taken: string[] = []
  let left = cells
  for (const piece of pieces) {
    if (piece.cells > left) break
    left -= piece.cells
    taken.push(piece.segment)
  }
  return (isReversed ? taken.reverse() : taken).join('')
}
