/** Escapes text for XML and HTML. */

/** Escapes text, also for attributes. Characters that XML 1.0 does not allow are replaced by U+FFFD. */
export function escapeXml (text: string): string {
  return text
    .replace(/\p{Surrogate}/gu, '\ufffd')
    .replace(/\p{Cc}/gu, character => '\t\r\n'.includes(character) ? ' ' : '\ufffd')
    .replace(/[\ufffe\uffff]/g, '\ufffd')
    .replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
