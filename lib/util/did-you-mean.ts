/** "Did you mean": the known name that is nearest to a misspelled one. */

/**
 * Finds the known name with the fewest edits, at most a third of the name's length.
 *
 * @returns `". Did you mean 'redis'?"`, or an empty string if no name is near enough
 */
export function suggest (name: string, known: Iterable<string>): string {
  let nearest = ''
  let fewest = Math.max(1, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const edits = distance(name.toLowerCase(), candidate.toLowerCase())
    if (edits < fewest) {
      nearest = candidate
      fewest = edits
    }
  }
  return nearest === '' ? '' : `. Did you mean '${nearest}'?`
}

/** The number of edits between two words (Levenshtein distance), computed row by row. */
function distance (a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]!
}
