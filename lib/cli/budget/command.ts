/** `fastify-shutdown budget`: checks the times of a deployment. */
import { parseArgs } from 'node:util'
import { UsageError, type Command } from '../command'
import { checkBudget, formatSum, formatTime, type Budget, type Times } from './budget'
import { findFiles, readDeployments } from './files'
import { ManifestError } from './manifests'

const usage = `Usage: fastify-shutdown budget [FILE…] [--delay ms] [--total ms] [--json]

Checks the times of a deployment: preStop + delay + timeouts.total must fit in the time before SIGKILL, and the
readiness probe's period x threshold must be shorter than the delay.

FILE      a Kubernetes manifest, a PM2 ecosystem (.js, .cjs, .mjs, .json, .yaml), a systemd unit (.service) or a compose
          file; - is standard input (kubectl kustomize … | fastify-shutdown budget -). Default: the files in this
          directory that have a usual name. A PM2 ecosystem in JavaScript is executed, as PM2 does.
--delay   the option 'delay', in milliseconds (default: the plugin's, by platform)
--total   the option 'timeouts.total', in milliseconds (default: the plugin's, 60000 shortened to fit)
--json    prints JSON

Exit code: 0 if everything fits, 1 if something does not, 2 if the check failed.
`

/** The command. Exit code 0 if everything fits, 1 if something does not. */
export const budget: Command = {
  usage,
  async run (args, { stdout }) {
    const { values, positionals: files } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        delay: { type: 'string' },
        total: { type: 'string' },
        json: { type: 'boolean' }
      }
    })
    const times: Times = { ...milliseconds('delay', values.delay), ...milliseconds('total', values.total) }
    const names = files.length > 0 ? files : findFiles()
    if (names.length === 0) throw new UsageError('expected a file: this directory has none with a usual name')
    const readings = await Promise.all(names.map(readDeployments))
    const budgets = readings.flatMap(reading => reading.deployments).map(deployment => checkBudget(deployment, times))
    const skipped = readings.flatMap(reading => reading.skipped)
    if (budgets.length === 0) {
      throw new ManifestError(['nothing to check: the files contain no workload', ...skipped].join('\n'))
    }

    stdout.write(
      values.json
        ? `${JSON.stringify({ budgets, skipped }, null, 2)}\n`
        : [...budgets.map(format), ...skipped.map(line => `skipped ${line}\n`)].join('\n')
    )
    return budgets.some(budget => budget.findings.some(finding => finding.severity === 'error')) ? 1 : 0
  }
}

function format ({ source, preStop, delay, total, grace, spare, findings }: Budget): string {
  const limit = grace === null || spare === null
    ? 'no limit'
    : `${formatTime(grace)}: ${spare < 0 ? `${formatTime(-spare)} too long` : `${formatTime(spare)} to spare`}`
  const lines = findings.map(finding => `  ${finding.severity}: ${finding.message}\n`)
  return `${source}\n  ${formatSum(preStop, delay, total)}, of ${limit}\n${lines.join('')}`
}

/** Parses an option of the command. Its range is the range of the plugin's option (times.ts). */
function milliseconds (name: 'delay' | 'total', given: string | undefined): Times {
  if (given === undefined) return {}
  const least = name === 'total' ? 1 : 0
  if (!/^\d+$/.test(given) || Number(given) < least || Number(given) >= 2 ** 31) {
    throw new UsageError(
      `expected --${name} to be a whole number of milliseconds from ${least} to ${2 ** 31 - 1}, got '${given}'`
    )
  }
  return { [name]: Number(given) }
}
