/** The whole drill: its restarts one after the other, and one verdict over all. */
import { readFileSync } from 'node:fs'
import { now } from '../../util/time'
import type { DrillOptions } from './arguments'
import { CannotRunError } from './cannot-run'
import type { Interruption } from './interruption'
import { isRunning } from './process-table'
import { round } from './record'
import { runRestart, type Progress } from './restart'
import type { DrillResult, Restart } from './result'
import { adoptServer, startServer, type Server } from './server'
import { judge } from './verdict'

/** The result, and what the servers have printed. */
export interface DrillRun {
  readonly result: DrillResult
  /** The output of the server, of the last restart. */
  readonly output: string
}

/** Runs the drill. @throws CannotRunError */
export async function runDrill (
  options: DrillOptions, interruption: Interruption, progress: Progress
): Promise<DrillRun> {
  const startedAt = new Date().toISOString()
  const began = now()
  const restarts: Restart[] = []
  let requests: readonly string[] = []
  let output = ''
  let lastPid: number | null = null
  for (let round = 1; round <= options.restarts; round++) {
    if (options.restarts > 1) progress(`restart ${round} of ${options.restarts}`)
    const server = await findServer(options, lastPid, interruption)
    lastPid = server.pid
    try {
      const run = await runRestart(server, options, interruption, progress)
      restarts.push(run.restart)
      requests = run.requests
    } finally {
      await server.release()
      output = server.output
    }
  }
  const { reasons, ...verdict } = judge(restarts, options)
  return {
    output,
    result: {
      schemaVersion: 1,
      verdict: reasons.length === 0 ? 'passed' : 'failed',
      startedAt,
      durationMs: round(now() - began),
      options: {
        command: options.command,
        signal: options.signal,
        grace: options.graceMs / 1_000,
        lost: options.lost,
        rate: options.plan.rate,
        connections: options.plan.connections,
        requests
      },
      ...verdict,
      reasons,
      restarts
    }
  }
}

async function findServer (options: DrillOptions, lastPid: number | null, interruption: Interruption): Promise<Server> {
  if (options.command !== null) return await startServer(options.command, interruption)
  const pid = options.pid ?? await readPid(options.pidFile!, lastPid, options.readyMs, interruption)
  return adoptServer(pid, interruption)
}

/** Reads a pid file, until it names a running process that is not the one before. */
async function readPid (
  file: string, lastPid: number | null, readyMs: number, { pause }: Interruption
): Promise<number> {
  for (const deadline = now() + readyMs; ; await pause(50)) {
    let text: string | null = null
    try {
      text = readFileSync(file, 'utf8').trim()
    } catch (error) {
      if (now() > deadline || lastPid === null) {
        throw new CannotRunError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`)
      }
    }
    const isPid = text !== null && /^[1-9]\d{0,9}$/.test(text)
    if (isPid && Number(text) !== lastPid && isRunning(Number(text))) return Number(text)
    if (lastPid !== null && now() < deadline) continue
    if (!isPid) throw new CannotRunError(`${file} does not contain a pid`)
    throw new CannotRunError(
      Number(text) === lastPid
        ? `${file} still names process ${text} ${readyMs / 1_000} s after its end`
        : `${file} names process ${text}, which does not run`
    )
  }
}
