/** Returns the shape of an output: each line without its numbers and units of time, and without spaces that only align. */
export function shape (text: string): string[] {
  return text.trim().split('\n').map(line => line.replaceAll(/\d[\d,]*(?:\.\d+)?/g, '0').replaceAll(/\b0 m?s\b/g, '0 s').replaceAll(/\s+/g, ' ').trim())
}
