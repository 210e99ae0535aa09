/**
 * The command `fastify-shutdown`. Nothing of this is loaded by the plugin.
 */
import { existsSync, readFileSync } from 'node:fs'
import { basename, extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { checkBudget, parts, text, type Budget, type Times } from './budget'
import { ManifestError, readManifest, readUnit, type Reading } from './manifests'

/** Where the command writes to; `process` is one. */
export interface Terminal {
  readonly stdout: { write (text: string): unknown }
  readonly stderr: { write (text: string): unknown }
}

const usage = `Usage: fastify-shutdown budget [FILE…] [--delay ms] [--total ms] [--json]

Says whether the times of a deployment fit together: preStop + delay + timeouts.total in what the platform grants before
SIGKILL, and the readiness probe's period x threshold in the delay.

FILE      a Kubernetes manifest, a PM2 ecosystem (.js, .cjs, .mjs, .json, .yaml), a systemd unit (.service) or a compose
          file; - is standard input (kubectl kustomize … | fastify-shutdown budget -). Without one: what is found in this
          directory under its usual name. A PM2 ecosystem in JavaScript is run, as PM2 does.
--delay   'delay' in your options, in milliseconds (default: as the plugin's, by platform)
--total   'timeouts.total' in your options, in milliseconds (default: as the plugin's, 60000 shortened to fit)
--json    for programs

Exit code: 0 all fits, 1 something does not, 2 it could not be told.
`

const usualNames = [
  'ecosystem.config.js', 'ecosystem.config.cjs', 'ecosystem.config.json', 'compose.yaml', 'compose.yml',
  'docker-compose.yaml', 'docker-compose.yml', 'deployment.yaml', 'deployment.yml'
]

/** @returns the exit code */
export async function run (args: readonly string[], terminal: Terminal): Promise<0 | 1 | 2> {
  try {
    const { values, positionals: [command, ...files] } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { delay: { type: 'string' }, total: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } }
    })
    if (values.help) {
      terminal.stdout.write(usage)
      return 0
    }
    if (command !== 'budget') throw new UsageError(command === undefined ? 'which command?' : `there is no command '${command}'`)
    const times: Times = { ...milliseconds('delay', values.delay), ...milliseconds('total', values.total) }
    const readings = await readAll(files)
    const budgets = readings.flatMap(reading => reading.deployments).map(deployment => checkBudget(deployment, times))
    const skipped = readings.flatMap(reading => reading.skipped)
    if (budgets.length === 0) throw new ManifestError(['nothing to check: no workload was found', ...skipped].join('\n'))

    terminal.stdout.write(values.json ? `${JSON.stringify({ budgets, skipped }, null, 2)}\n` : [...budgets.map(describe), ...skipped.map(line => `skipped ${line}\n`)].join('\n'))
    return budgets.some(budget => budget.findings.some(finding => finding.severity === 'error')) ? 1 : 0
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    terminal.stderr.write(`fastify-shutdown: ${message}\n${isUsage(error) ? `\n${usage}` : ''}`)
    return 2
  }
}

class UsageError extends Error {}

function isUsage (error: unknown): boolean {
  return error instanceof UsageError || (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
}

function describe ({ source, preStop, delay, total, grace, spare, findings }: Budget): string {
  const end = grace === null || spare === null ? 'no end' : `${text(grace)}: ${spare < 0 ? `${text(-spare)} too much` : `${text(spare)} to spare`}`
  const lines = findings.map(finding => `  ${finding.severity}: ${finding.message}\n`)
  return `${source}\n  ${parts(preStop, delay, total)}, of ${end}\n${lines.join('')}`
}

async function readAll (files: readonly string[]): Promise<Reading[]> {
  if (files.length > 0) return await Promise.all(files.map(file => read(file, file === '-' ? 0 : file)))
  const found = usualNames.filter(name => existsSync(name))
  if (found.length === 0) throw new UsageError('name a file: none with a usual name is here')
  return await Promise.all(found.map(name => read(name, name)))
}

/** @throws ManifestError, which names the file */
async function read (name: string, file: string | 0): Promise<Reading> {
  try {
    return await readFile(name, file)
  } catch (error) {
    if (error instanceof ManifestError) throw error
    if (error instanceof Error && 'code' in error && error.code === 'EISDIR') {
      throw new ManifestError(`${name} is a directory: check what it renders, kubectl kustomize ${name} | fastify-shutdown budget -`)
    }
    throw new ManifestError(`${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

async function readFile (name: string, file: string | 0): Promise<Reading> {
  const content = readFileSync(file, 'utf8')
  if (file !== 0 && ['.js', '.cjs', '.mjs'].includes(extname(file))) {
    const ecosystem: { default: unknown } = await import(pathToFileURL(resolve(file)).href)
    return readManifest(name, [ecosystem.default])
  }
  if (extname(basename(name)) === '.service' || /^\[(?:Unit|Service)\]\s*$/m.test(content)) return readUnit(name, content)
  const documents = [...parseAllDocuments(content, { merge: true, logLevel: 'error' })]
  const problem = documents.flatMap(document => document.errors)[0]
  if (problem !== undefined) throw new ManifestError(`${name}: ${problem.message.trim()}\n(a template has to be rendered first)`)
  return readManifest(name, documents.map(document => document.toJS()))
}

function milliseconds (name: 'delay' | 'total', given: string | undefined): Times {
  if (given === undefined) return {}
  // What the plugin itself would take (options.ts).
  const least = name === 'total' ? 1 : 0
  if (!/^\d+$/.test(given) || Number(given) < least || Number(given) >= 2 ** 31) {
    throw new UsageError(`expected --${name} to be a whole number of milliseconds from ${least} to ${2 ** 31 - 1}, got '${given}'`)
  }
  return { [name]: Number(given) }
}
