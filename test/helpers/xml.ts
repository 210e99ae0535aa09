/** Checks that a text is well-formed XML, as far as our pictures use XML: elements, attributes, text, and numeric references. */

/** Returns the names of the elements in their order. @throws if the text is not well-formed */
export function elementsOf (xml: string): string[] {
  const open: string[] = []
  const elements: string[] = []
  // https://www.w3.org/TR/xml/#charsets
  const forbidden = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u.exec(xml)
  if (forbidden !== null) throw new Error(`forbidden character at ${forbidden.index}`)
  const token = /<(\/?)([A-Za-z][\w:-]*)((?:\s+[A-Za-z][\w:-]*="[^"<]*")*)\s*(\/?)>|([^<>]+)/uy
  while (token.lastIndex < xml.length) {
    const at = token.lastIndex
    const match = token.exec(xml)
    if (match === null) throw new Error(`not well-formed at ${at}: ${xml.slice(at, at + 60)}`)
    const [whole, close, name = '', attributes = '', isEmpty] = match
    const text = name === '' ? whole : attributes
    if (/&(?!#\d+;)/.test(text)) throw new Error(`not a numeric reference at ${at}: ${text.slice(0, 60)}`)
    const names = [...attributes.matchAll(/([\w:-]+)="/g)].map(([, attribute]) => attribute)
    if (new Set(names).size < names.length) throw new Error(`an attribute twice at ${at}: ${whole}`)
    if (name === '') {
      if (open.length === 0 && text.trim() !== '') throw new Error(`text outside of the root: ${text}`)
    } else if (close === '/') {
      if (open.pop() !== name) throw new Error(`unexpected </${name}> at ${at}`)
    } else {
      elements.push(name)
      if (isEmpty === '') open.push(name)
    }
  }
  if (open.length > 0) throw new Error(`not closed: ${open.join(', ')}`)
  return elements
}
