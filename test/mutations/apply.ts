/** Finds the line of a mutation, and replaces it. */
import type { Mutation } from './list'

/** Returns the lines of a file. */
export function linesOf (text: string): string[] {
  return text.split('\n')
}

/** Returns the index of the mutation's line, or -1 if it is not there, or more than once. */
export function placeOf (lines: readonly string[], { line }: Pick<Mutation, 'line'>): number {
  const places = lines.flatMap((each, index) => each.trim() === line ? [index] : [])
  return places.length === 1 ? places[0]! : -1
}

/** Returns the text with the mistake. @throws if the line is not there once */
export function apply (text: string, mutation: Mutation): string {
  const lines = linesOf(text)
  const place = placeOf(lines, mutation)
  if (place === -1) throw new Error(`${mutation.file} does not have this line once: ${mutation.line}`)
  lines[place] = mutation.becomes
  return lines.join('\n')
}
