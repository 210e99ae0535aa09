/**
 * Parses the frames of a WebSocket from the bytes that the server writes (RFC 6455, section 5.2). A close frame is only
 * valid between two frames. It is also valid between two fragments of a message, but then the rest of the message is
 * lost.
 */

/** The position between the frames of one WebSocket. */
export interface Frames {
  /** Whether the handshake is not over. No frame may be written yet. */
  readonly opening: boolean
  /** Whether the handshake was accepted, and the last message is complete. */
  readonly between: boolean
  /** Parses the next bytes. */
  push(chunk: Uint8Array): void
}

const blankLine = '\r\n\r\n'
const accepted = /^HTTP\/1\.[01] 101[ \r]/

/** Creates the parser of one connection. The first bytes are the answer to the handshake. */
export function followFrames (): Frames {
  let state: 'opening' | 'open' | 'rejected' = 'opening'
  let head = ''
  /** The first bytes of a frame, until its head is complete. */
  let begun: Uint8Array = Buffer.alloc(0)
  /** How many bytes of the frame's payload are missing. */
  let missing = 0
  /** Whether the last data frame was the last frame of its message. */
  let whole = true

  return {
    get opening () { return state === 'opening' },
    get between () { return state === 'open' && missing === 0 && begun.length === 0 && whole },
    push (chunk) {
      let rest = state === 'opening' ? open(chunk) : chunk
      if (state !== 'open') return
      while (rest.length > 0) rest = missing > 0 ? skip(rest) : begin(rest)
    }
  }

  function open (chunk: Uint8Array): Uint8Array {
    const before = head.length
    head += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1')
    const end = head.indexOf(blankLine)
    if (end < 0) return chunk
    state = accepted.test(head) ? 'open' : 'rejected'
    return chunk.subarray(end + blankLine.length - before)
  }

  function skip (rest: Uint8Array): Uint8Array {
    const length = Math.min(missing, rest.length)
    missing -= length
    return rest.subarray(length)
  }

  /** Parses the head of a frame. @returns the bytes after it; none if the head is not complete */
  function begin (rest: Uint8Array): Uint8Array {
    const frame = Buffer.concat([begun, rest])
    const short = frame.length < 2 ? 0 : frame[1]! & 0x7f
    const size = 2 + (short === 126 ? 2 : short === 127 ? 8 : 0)
    const masked = frame.length >= 2 && (frame[1]! & 0x80) !== 0 ? 4 : 0
    if (frame.length < size + masked) {
      begun = frame
      return frame.subarray(frame.length)
    }
    begun = Buffer.alloc(0)
    missing = short === 126 ? frame.readUInt16BE(2) : short === 127 ? Number(frame.readBigUInt64BE(2)) : short
    const isControl = (frame[0]! & 0x08) !== 0
    if (!isControl) whole = (frame[0]! & 0x80) !== 0
    return frame.subarray(size + masked)
  }
}
