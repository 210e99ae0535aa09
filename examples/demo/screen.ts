/** The output: colours and a live line on a terminal, plain lines elsewhere. */
import type { WriteStream } from 'node:tty'

export type Colour = 'red' | 'green' | 'yellow' | 'cyan' | 'dim' | 'bold'

export interface Screen {
  /** Whether `paint` adds colours. */
  readonly coloured: boolean
  line(text?: string): void
  paint(colour: Colour, text: string): string
  /** Replaces the line at the bottom of a terminal. Does nothing without a terminal. */
  live(text: string): void
}

const codes: Readonly<Record<Colour, readonly [on: number, off: number]>> = { red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39], dim: [2, 22], bold: [1, 22] }

export function createScreen (out: NodeJS.WritableStream & Partial<WriteStream>, env: NodeJS.ProcessEnv): Screen {
  const terminal = out.isTTY === true && env.TERM !== 'dumb'
  // https://no-color.org: any value except the empty string.
  const coloured = terminal && !env.NO_COLOR
  const clear = '\r\u001b[2K'
  let shown = ''

  return {
    coloured,
    line (text = '') {
      out.write(shown === '' ? `${text}\n` : `${clear}${text}\n${shown}`)
    },
    paint (colour, text) {
      const [on, off] = codes[colour]
      return coloured ? `\u001b[${on}m${text}\u001b[${off}m` : text
    },
    live (text) {
      if (!terminal) return
      shown = text.slice(0, (out.columns ?? 80) - 1)
      out.write(`${clear}${shown}`)
    }
  }
}
