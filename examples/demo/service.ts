/** The service as a child process. Its log is the source of the phases and of the report. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface RunningService {
  readonly port: number
  readonly pid: number
  readonly exited: Promise<{ readonly code: number | null, readonly signal: NodeJS.Signals | null }>
  terminate(): void
}

export interface ServiceListener {
  /** Entered `ms` milliseconds after the shutdown began. */
  phase(name: string, ms: number): void
  waiting(message: string): void
  /** @param line the log line that contains the report */
  report(report: { readonly outcome: string }, line: string): void
  /** A log line of level warn or above, or a line that is not JSON. */
  trouble(line: string): void
}

interface LogLine {
  readonly level: number
  readonly msg: string
  readonly err?: { readonly code?: string }
  readonly shutdown?: { readonly phase?: string, readonly atMs?: number, readonly previous?: string, readonly pending?: readonly string[], readonly outcome?: string, readonly phases?: unknown }
}

/** @throws if the service ends before it listens */
export async function startService (env: NodeJS.ProcessEnv, listener: ServiceListener): Promise<RunningService> {
  const child = spawn(process.execPath, [join(__dirname, '..', 'service', 'main.js')], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = (): void => { child.kill('SIGKILL') }
  process.once('exit', kill)
  const exited = new Promise<{ code: number | null, signal: NodeJS.Signals | null }>(resolve => {
    // 'close' and not 'exit': the last log lines arrive between the two.
    child.once('close', (code, signal) => {
      process.removeListener('exit', kill)
      resolve({ code, signal })
    })
  })
  const port = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', listener.trouble)
    createInterface({ input: child.stdout }).on('line', line => {
      const entry = parse(line)
      if (entry === null) return listener.trouble(line)
      const listening = /^Server listening at http:\/\/.*:(\d+)$/.exec(entry.msg)
      if (listening !== null) return resolve(Number(listening[1]))
      forward(entry, line, listener)
    })
    void exited.then(({ code }) => reject(new Error(`The service ended with code ${code} before it listened`)))
  })
  return { port, pid: child.pid!, exited, terminate: () => { child.kill('SIGTERM') } }
}

function forward (entry: LogLine, line: string, listener: ServiceListener): void {
  const { shutdown } = entry
  if (shutdown?.previous !== undefined) listener.phase(shutdown.phase!, shutdown.atMs!)
  else if (shutdown?.phases !== undefined) listener.report({ outcome: shutdown.outcome! }, line)
  else if (shutdown?.pending !== undefined) listener.waiting(entry.msg.replace('shutdown: ', ''))
  // Fastify logs each 503 as an error. The clients count them.
  else if (entry.level >= 40 && entry.err?.code !== 'FST_ERR_SHUTDOWN_DRAINING') listener.trouble(entry.msg)
}

function parse (line: string): LogLine | null {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}
