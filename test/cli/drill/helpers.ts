/** Runs drills in this process, against small servers in processes of their own. */
import { join } from 'node:path'
import t from 'tap'
import type { DrillResult } from '../../../lib/cli/drill/result'
import { run } from '../../../lib/cli/main'
import { translate } from '../../helpers/children'

const directory = translate(t.testdir(), [
  'lib', 'test/cli/drill/fixtures/faulty.ts', 'test/cli/drill/fixtures/good.ts'
])

/** The fixtures as commands. Their environment is empty, because the plugin ignores signals inside a test runner. */
export function fixture (name: 'faulty' | 'good', ...args: readonly string[]): string[] {
  return clean(process.execPath, join(directory, `test/cli/drill/fixtures/${name}.js`), ...args)
}

/** A command with an empty environment. `env` becomes the command, so that the pid is the same. */
export function clean (...command: readonly string[]): string[] {
  return ['env', '-i', `PATH=${process.env.PATH}`, `HOME=${process.env.HOME}`, ...command]
}

/** The path of the translated command `fastify-shutdown`. */
export const main = join(directory, 'lib/cli/main.js')

/** A drill that is over. */
export interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `fastify-shutdown drill`. */
export async function drill (...args: readonly string[]): Promise<Run> {
  let stdout = ''
  let stderr = ''
  const code = await run(['drill', ...args], {
    stdout: { write: (text: string) => { stdout += text } },
    stderr: { write: (text: string) => { stderr += text } }
  })
  return { code, stdout, stderr }
}

/** Runs a drill with short times, and returns its result. */
export async function drillShortly (args: readonly string[], command: readonly string[]): Promise<DrillResult & { readonly code: number }> {
  const { code, stdout, stderr } = await drill('--json', '--before', '0.6', '--grace', '10', ...args, '--', ...command)
  if (stdout === '') throw new Error(stderr)
  return { ...JSON.parse(stdout) as DrillResult, code }
}

/** The rules that failed. */
export function failed ({ reasons }: DrillResult): string[] {
  return reasons.map(({ rule }) => rule)
}
