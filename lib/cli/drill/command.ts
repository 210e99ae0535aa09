/** `fastify-shutdown drill`: rehearses the shutdown of any HTTP server under traffic. */
import type { Command, Output } from '../command'
import { writeFiles, type File } from '../write-files'
import { parseArguments } from './arguments'
import { runDrill } from './drill'
import { interruptible } from './interruption'
import { formatHtml } from './outputs/html'
import { formatJUnit } from './outputs/junit'
import { formatMarkdown } from './outputs/markdown'
import { formatPlain } from './outputs/plain'
import { usage } from './usage'

/** The command. Exit code 0 if the drill passed, 1 if it failed. */
export const drill: Command = {
  usage,
  async run (args, { stdout, stderr }) {
    const options = parseArguments(args)
    const { result, output } = await interruptible(interruption => runDrill(options, interruption, progressTo(stderr)))
    if (stderr.isTTY === true) stderr.write(clearLine)
    // First, because a file that cannot be written must not hide the result.
    stdout.write(options.json ? `${JSON.stringify(result, null, 2)}\n` : formatPlain(result))
    await writeFiles([
      ...file(options.html, () => formatHtml(result, output)),
      ...file(options.junit, () => formatJUnit(result)),
      ...file(options.markdown, () => formatMarkdown(result))
    ])
    return result.verdict === 'passed' ? 0 : 1
  }
}

function file (name: string | null, format: () => string): File[] {
  return name === null ? [] : [{ name, content: format() }]
}

const clearLine = '\r\u001b[2K'

/** Progress is one line that changes on a terminal, and one line for each step elsewhere. */
function progressTo (output: Output): (line: string) => void {
  return line => {
    const safe = line.replace(/\p{Cc}/gu, ' ')
    output.write(output.isTTY === true ? `${clearLine}${safe.slice(0, (output.columns ?? 80) - 1)}` : `${safe}\n`)
  }
}
