/** Parses an HTTP/1 answer from the bytes of a connection, and detects an answer that has no end. */

/** The head of an answer. */
export interface AnswerHead {
  readonly status: number
  /** By name in lower case. Values of equal names are joined by `, `. */
  readonly headers: ReadonlyMap<string, string>
  /** Whether the connection may carry another request. */
  readonly keepAlive: boolean
}

/** An answer that is being received. */
export interface Answer {
  /** `waiting`: no byte yet. `upgraded`: 101, what follows is not HTTP. */
  readonly state: 'waiting' | 'begun' | 'complete' | 'upgraded' | 'invalid'
  /** `null` until it is complete. */
  readonly head: AnswerHead | null
  /** The first megabyte of the body. */
  readonly body: string
  /** Bytes behind the end of the answer. */
  readonly rest: Buffer
  /** Adds bytes. */
  push (chunk: Buffer): void
  /** The connection has ended. An answer without a length is complete then. */
  end (): void
}

/** Longest head, in bytes. */
const longestHead = 65_536

/** Longest body that is kept, in bytes. */
const longestBody = 2 ** 20

/** Starts to receive an answer. @param method of the request, because an answer to HEAD has no body */
export function receiveAnswer (method: string): Answer {
  let state: Answer['state'] = 'waiting'
  let head: AnswerHead | null = null
  let buffer: Buffer = Buffer.alloc(0)
  let body: Body | null = null
  const kept: Buffer[] = []
  let keptBytes = 0
  const keep = (data: Buffer): void => {
    if (keptBytes >= longestBody) return
    kept.push(data)
    keptBytes += data.length
  }

  function parse (): void {
    while (state === 'begun') {
      if (head === null) {
        const end = buffer.indexOf('\r\n\r\n')
        if (end === -1) {
          if (buffer.length > longestHead) state = 'invalid'
          return
        }
        const parsed = parseHead(buffer.toString('latin1', 0, end))
        buffer = buffer.subarray(end + 4)
        if (parsed === null) state = 'invalid'
        else if (parsed.status === 101) [head, state] = [parsed, 'upgraded']
        else if (parsed.status >= 200) [head, body] = [parsed, bodyOf(parsed, method, keep)]
        else if (buffer.length === 0) return
        continue
      }
      const used = body!.take(buffer)
      if (used === null) state = 'invalid'
      else buffer = buffer.subarray(used)
      if (body!.complete) state = 'complete'
      return
    }
  }

  return {
    get state () { return state },
    get head () { return head },
    get body () { return Buffer.concat(kept).toString('utf8') },
    get rest () { return buffer },
    push (chunk) {
      if (state === 'waiting') state = 'begun'
      buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk])
      parse()
    },
    end () {
      if (state === 'begun' && body?.endsWithConnection === true) state = 'complete'
    }
  }
}

function parseHead (text: string): AnswerHead | null {
  const [first = '', ...lines] = text.split('\r\n')
  const match = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first)
  if (match === null) return null
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) return null
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    headers.set(name, headers.has(name) ? `${headers.get(name)}, ${value}` : value)
  }
  const connection = (headers.get('connection') ?? '').toLowerCase().split(',').map(word => word.trim())
  const keepAlive = match[1] === '1' ? !connection.includes('close') : connection.includes('keep-alive')
  return { status: Number(match[2]), headers, keepAlive }
}

/** The body of an answer. */
interface Body {
  readonly complete: boolean
  readonly endsWithConnection: boolean
  /** @returns the number of bytes that were used; `null` if they are not valid */
  take (data: Buffer): number | null
}

/** Chooses the form of the body (RFC 9112, 6.3). */
function bodyOf ({ status, headers }: AnswerHead, method: string, keep: (data: Buffer) => void): Body {
  if (method === 'HEAD' || status === 204 || status === 304) return bodyOfLength(0, keep)
  if (/(?:^|,)\s*chunked\s*$/i.test(headers.get('transfer-encoding') ?? '')) return chunkedBody(keep)
  const length = headers.get('content-length')
  return length === undefined
    ? bodyOfLength(Infinity, keep)
    : bodyOfLength(
      /^\d+$/.test(length) ? Number(length) : NaN, keep
    )
}

/** A body of known length. @param length `Infinity`: until the connection ends */
function bodyOfLength (length: number, keep: (data: Buffer) => void): Body {
  let left = length
  return {
    get complete () { return left === 0 },
    endsWithConnection: length === Infinity,
    take (data) {
      if (Number.isNaN(length)) return null
      const used = Math.min(left, data.length)
      keep(data.subarray(0, used))
      left -= used
      return used
    }
  }
}

function chunkedBody (keep: (data: Buffer) => void): Body {
  let expected: 'size' | 'data' | 'trailer' | 'end' = 'size'
  let left = 0
  return {
    get complete () { return expected === 'end' },
    endsWithConnection: false,
    take (data) {
      let at = 0
      while (expected !== 'end') {
        if (expected === 'data') {
          const used = Math.min(left, data.length - at)
          // The last two bytes of `left` are the line end behind the data.
          keep(data.subarray(at, at + Math.min(used, Math.max(0, left - 2))))
          left -= used
          at += used
          if (left > 0) return at
          expected = 'size'
        }
        const end = data.indexOf('\r\n', at)
        if (end === -1) return at
        const line = data.toString('latin1', at, end)
        at = end + 2
        if (expected === 'trailer') {
          if (line === '') expected = 'end'
          continue
        }
        const size = /^([0-9a-f]{1,12})\s*(?:;|$)/i.exec(line)
        if (size === null) return null
        left = parseInt(size[1]!, 16) + 2
        expected = left === 2 ? 'trailer' : 'data'
      }
      return at
    }
  }
}
