/** Returns the shape of an output: each line without its numbers, and without spaces that only align columns. */
export function shape (text: string): string[] {
  return text.trim().split('\n').map(line => line.replaceAll(/\d[\d ,]*(?:\.\d+)?/g, '0 ').replaceAll(/\s+/g, ' ').trim())
}
