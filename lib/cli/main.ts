/** The command `fastify-shutdown`. The plugin does not load it, and each subcommand loads only its own code. */
import { UsageError, type Command, type ExitCode, type Terminal } from './command'

const commands: Readonly<Record<string, { readonly purpose: string, load(): Command }>> = {
  budget: {
    purpose: 'checks the times of a deployment',
    load: () => (require('./budget/command') as typeof import('./budget/command.js')).budget
  },
  timeline: {
    purpose: 'draws the report of a shutdown',
    load: () => (require('./timeline/command') as typeof import('./timeline/command.js')).timeline
  },
  drill: {
    purpose: 'rehearses the shutdown of any HTTP server',
    load: () => (require('./drill/command') as typeof import('./drill/command.js')).drill
  }
}

const usage = `Usage: fastify-shutdown <command> [arguments]

${Object.entries(commands).map(([name, { purpose }]) => `${name.padEnd(9)} ${purpose}\n`).join('')}
Use 'fastify-shutdown <command> --help' for the arguments of a command.
`

/** Runs the command. @returns the exit code: 0 if everything is right, 1 if something is not, 2 if it could not run */
export async function run (args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const [name = '', ...rest] = args
  if (name === '--help' || name === '-h') {
    terminal.stdout.write(usage)
    return 0
  }
  if (!Object.hasOwn(commands, name)) {
    const message = name === '' ? 'expected a command' : `unknown command '${name}'`
    terminal.stderr.write(`fastify-shutdown: ${message}\n\n${usage}`)
    return 2
  }
  const command = commands[name]!.load()
  const end = rest.indexOf('--')
  if ((end === -1 ? rest : rest.slice(0, end)).some(argument => argument === '--help' || argument === '-h')) {
    terminal.stdout.write(command.usage)
    return 0
  }
  try {
    return await command.run(rest, terminal)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    terminal.stderr.write(`fastify-shutdown: ${message}\n${isUsageError(error) ? `\n${command.usage}` : ''}`)
    return 2
  }
}

function isUsageError (error: unknown): boolean {
  return error instanceof UsageError ||
    (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
}
