/** Finds the end of an answer's body: by its length, by its last chunk, or by the end of its connection. */
import type { AnswerHead } from './answer'

/** The body of an answer. */
export interface Body {
  /** Whether its last byte was received. */
  readonly complete: boolean
  /** Whether it has no length, and ends with its connection. */
  readonly endsWithConnection: boolean
  /** Takes bytes. @returns the number of bytes that were used; `null` if they are not valid */
  take (data: Buffer): number | null
}

/** Chooses the form of the body (RFC 9112, 6.3). @param keep called with each part of the body */
export function bodyOf ({ status, headers }: AnswerHead, method: string, keep: (data: Buffer) => void): Body {
  if (method === 'HEAD' || status === 204 || status === 304) return bodyOfLength(0, keep)
  if (/(?:^|,)\s*chunked\s*$/i.test(headers.get('transfer-encoding') ?? '')) return chunkedBody(keep)
  const length = headers.get('content-length')
  if (length === undefined) return bodyOfLength(Infinity, keep)
  return bodyOfLength(/^\d+$/.test(length) ? Number(length) : NaN, keep)
}

/** Returns a body of this length. @param length `Infinity`: until the connection ends; `NaN`: no valid length */
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
