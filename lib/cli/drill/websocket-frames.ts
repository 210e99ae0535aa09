/** Reads and writes the frames of a WebSocket client (RFC 6455, 5.2), as far as a drill needs them. */
import { randomBytes } from 'node:crypto'

/** A control frame of the server. */
export interface ControlFrame {
  readonly opcode: 'close' | 'ping' | 'pong'
  readonly payload: Buffer
}

const opcodes: Readonly<Record<number, ControlFrame['opcode']>> = { 8: 'close', 9: 'ping', 10: 'pong' }

/** Creates a reader. @returns a function that takes bytes and returns the control frames in them; data is skipped */
export function createFrameReader (): (chunk: Buffer) => ControlFrame[] {
  let buffer: Buffer = Buffer.alloc(0)
  let skip = 0
  return chunk => {
    buffer = Buffer.concat([buffer, chunk])
    const frames: ControlFrame[] = []
    for (;;) {
      const skipped = Math.min(skip, buffer.length)
      buffer = buffer.subarray(skipped)
      skip -= skipped
      if (buffer.length < 2) return frames
      const short = buffer[1]! & 0x7f
      const head = short === 126 ? 4 : short === 127 ? 10 : 2
      if (buffer.length < head) return frames
      const length = short === 126 ? buffer.readUInt16BE(2) : short === 127 ? Number(buffer.readBigUInt64BE(2)) : short
      const opcode = opcodes[buffer[0]! & 0x0f]
      if (opcode === undefined) {
        skip = head + length
        continue
      }
      if (buffer.length < head + length) return frames
      frames.push({ opcode, payload: buffer.subarray(head, head + length) })
      buffer = buffer.subarray(head + length)
    }
  }
}

/** Returns a masked control frame. @param payload at most 125 bytes */
export function controlFrame (opcode: ControlFrame['opcode'], payload: Buffer): Buffer {
  const code = Number(Object.keys(opcodes).find(key => opcodes[Number(key)] === opcode))
  const mask = randomBytes(4)
  return Buffer.concat(
    [Buffer.from([0x80 | code, 0x80 | payload.length]), mask, payload.map((byte, i) => byte ^ mask[i % 4]!)]
  )
}
