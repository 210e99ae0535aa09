/**
 * The soak: which memory, handles and listeners stay in a process that uses the plugin for a long time?
 *
 *   npm run soak                              30 minutes of traffic, a restart every 20 s behind HAProxy
 *   npm run soak -- --minutes 2               shorter; only a run of 30 minutes or more is written
 *   npm run soak -- --hostile 1000000         1,000,000 hostile requests
 *   npm run soak -- --page                    writes docs/reliability.md from the last results
 *
 * Writes results.json and docs/reliability.md. The exit code is 1 if a promise does not hold.
 */
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { printResults } from '../disconnects/tables.mjs'
import * as haproxy from './haproxy.mjs'
import { soakHostile } from './hostile.mjs'
import { print, record, writePage } from './page.mjs'
import { soakRestarts } from './restarts.mjs'

/** A shorter run is written only with `--write`. */
const shortestResult = { minutes: 30, hostile: 1_000_000 }

const options = readArguments()
if (!existsSync(new URL('../../dist/lib/index.js', import.meta.url))) stop('run `npm run build` first')

/** If the run is interrupted, it stops everything that it has started. */
const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    // The server of the hostile clients ends with this process.
    if (options.hostile !== undefined) process.exit(1)
    interrupted.abort()
  })
}
const onProgress = line => { console.log(line) }

if (options.page) {
  await writePage()
} else if (options.hostile !== undefined) {
  const { result, verdict, bare, ours } = await soakHostile({ requests: options.hostile, seed: options.seed, onProgress })
  printResults(bare, ours, verdict)
  if (options.write || options.hostile >= shortestResult.hostile) await record('hostile', result, verdict)
  end(verdict)
} else {
  if (haproxy.missing !== null) stop(`install ${haproxy.missing}`)
  const { result, verdict } = await soakRestarts({ minutes: options.minutes, everyMs: options.every * 1_000, rate: options.rate, signal: interrupted.signal, onProgress })
  print(verdict)
  for (const { lastErrors } of result.inProcess.slice(-1)) for (const error of lastErrors) console.log(error)
  if (options.write || options.minutes >= shortestResult.minutes) await record('restarts', result, verdict)
  end(verdict)
}

function end (verdict) {
  const broken = verdict.filter(({ holds }) => !holds).length
  console.log(broken === 0 ? 'All promises hold.' : `${broken} of ${verdict.length} promises are broken.`)
  process.exit(broken === 0 ? 0 : 1)
}

function readArguments () {
  try {
    const { values } = parseArgs({
      options: {
        minutes: { type: 'string', default: '30' },
        /** Seconds from one restart to the next one. */
        every: { type: 'string', default: '20' },
        /** Requests per second. */
        rate: { type: 'string', default: '100' },
        hostile: { type: 'string' },
        seed: { type: 'string', default: '1' },
        write: { type: 'boolean', default: false },
        page: { type: 'boolean', default: false }
      }
    })
    const number = (name, least) => {
      const value = Number(values[name])
      if (!(value >= least)) stop(`--${name} is a number from ${least}, not '${values[name]}'`)
      return value
    }
    return {
      ...values,
      minutes: number('minutes', 0.1),
      every: number('every', 3),
      rate: number('rate', 1),
      seed: number('seed', 0),
      hostile: values.hostile === undefined ? undefined : number('hostile', 1_000)
    }
  } catch (error) {
    stop(error.message)
  }
}

function stop (message) {
  console.error(message)
  process.exit(2)
}
