/** "Did you mean": the nearest of the known names, where one is near enough to be a slip of the finger. */

/** @returns `". Did you mean 'redis'?"`, or an empty string */
export function suggest (name: string, known: Iterable<string>): string {
  let nearest = ''
  let least = Math.max(1, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const far = distance(name.toLowerCase(), candidate.toLowerCase())
    if (far < least) {
      nearest = candidate
      least = far
    }
  }
  return nearest === '' ? '' : `. Did you mean '${nearest}'?`
}

/** Edits between two words (Levenshtein), one row at a time. */
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
