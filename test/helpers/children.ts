/**
 * Children for the tests of signals and exits. They run as plain JavaScript, as they would in production: what tap loads into
 * a TypeScript child listens to signals itself, and takes seconds to start.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { dirname, join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import ts from 'typescript'
import type { Service } from '../process/fixtures/service'

const root = join(__dirname, '../..')

/** Translate the package and the fixtures into this directory; below the package's own, so that its dependencies are found. */
export function translate (directory: string, sources: readonly string[] = ['lib', 'test/process/fixtures/service.ts']): string {
  for (const source of sources) {
    const files = source.endsWith('.ts') ? [source] : readdirSync(join(root, source), { recursive: true, encoding: 'utf8' }).map(file => join(source, file))
    for (const file of files.filter(file => file.endsWith('.ts'))) {
      const { outputText } = ts.transpileModule(readFileSync(join(root, file), 'utf8'), {
        compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true }
      })
      const target = join(directory, file.replace(/ts$/, 'js'))
      mkdirSync(dirname(target), { recursive: true })
      writeFileSync(target, outputText)
    }
  }
  return directory
}

export interface Child {
  readonly process: ChildProcess
  readonly lines: readonly string[]
  /** The rest of the first line that begins with these words. */
  said(words: string): Promise<string>
  count(words: string): number
  /** How it ended, and when (`performance.now()`). */
  readonly ended: Promise<{ readonly code: number | null, readonly signal: NodeJS.Signals | null, readonly at: number, readonly stderr: string }>
  kill(signal: NodeJS.Signals): void
}

export interface Command {
  readonly program?: string
  readonly args: readonly string[]
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** In a process group of its own, as a terminal's foreground job. */
  readonly group?: boolean
}

export function run (t: Test, { program = process.execPath, args, cwd, env = {}, group = false }: Command): Child {
  // No platform but the plain one, and nothing of tap, which puts itself into the environment of each child: hence `env -i`.
  const variables = Object.entries({ PATH: process.env.PATH, HOME: process.env.HOME, ...env }).map(([name, value]) => `${name}=${value ?? ''}`)
  const child = spawn('env', ['-i', ...variables, program, ...args], { cwd, detached: group, stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  let stderr = ''
  let over = false
  createInterface({ input: child.stdout! }).on('line', line => {
    lines.push(line)
    for (const look of [...waiting]) look()
  })
  child.stderr!.on('data', (chunk: Buffer) => { stderr += chunk.toString() })
  const exited = new Promise<number>(resolve => child.once('exit', () => resolve(performance.now())))
  const ended = new Promise<Awaited<Child['ended']>>(resolve => {
    child.once('close', (code, signal) => {
      over = true
      for (const look of [...waiting]) look()
      void exited.then(at => resolve({ code, signal, at, stderr }))
    })
  })
  t.teardown(async () => {
    if (!over) {
      try {
        process.kill(group ? -child.pid! : child.pid!, 'SIGKILL')
      } catch {
        // It has just gone.
      }
    }
    child.stdout?.destroy()
    child.stderr?.destroy()
    await ended
  })
  return {
    process: child,
    lines,
    ended,
    said: words => new Promise((resolve, reject) => {
      const look = (): void => {
        const line = lines.find(each => each.startsWith(words))
        if (line === undefined && !over) return
        waiting.delete(look)
        if (line !== undefined) resolve(line.slice(words.length).trim())
        else reject(new Error(`It ended without having said '${words}': ${lines.join(' | ')} ${stderr}`))
      }
      waiting.add(look)
      look()
    }),
    count: words => lines.filter(line => line.startsWith(words)).length,
    kill: signal => { process.kill(group ? -child.pid! : child.pid!, signal) }
  }
}

export interface RunningService extends Child {
  readonly port: number
  /** Begin a request. Never rejects: a connection that was cut is told as such. */
  get(path: string, port?: number): Promise<Answer>
  /** Begin a request that takes this long, and wait until its handler runs. The answer is in an object, so that nobody awaits it by accident. */
  slow(ms: number, instance?: 'first' | 'second'): Promise<{ readonly answer: Promise<Answer> }>
}

export interface Answer {
  readonly status: number | null
  readonly whole: boolean
  readonly body: string
}

/** Start the fixture and wait until it listens, or says `until`. */
export async function serve (t: Test, directory: string, service: Service, { until = 'ready', ...command }: Partial<Command> & { until?: string } = {}): Promise<RunningService> {
  const child = run(t, { args: [join(directory, 'test/process/fixtures/service.js')], cwd: directory, ...command, env: { ...command.env, SERVICE: JSON.stringify(service) } })
  await child.said(until)
  const port = Number(child.lines.find(line => line.startsWith('port '))?.slice(5))
  return {
    ...child,
    port,
    get: (path, other = port) => get(path, other),
    async slow (ms, instance = 'first') {
      const answer = get(`/slow?ms=${ms}`, instance === 'first' ? port : Number(await child.said('second port')))
      await child.said(instance === 'first' ? 'slow' : 'second slow')
      return { answer }
    }
  }
}

function get (path: string, port: number): Promise<Answer> {
  return new Promise(resolve => {
    const request = http.get({ path, port, host: '127.0.0.1', agent: false }, response => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', chunk => { body += chunk })
      response.on('error', () => {})
      response.on('close', () => resolve({ status: response.statusCode ?? null, whole: response.complete, body }))
    })
    request.on('error', () => resolve({ status: null, whole: false, body: '' }))
  })
}

/** What the report said: its reason, outcome and exit code. */
export async function report (child: Child, name = ''): Promise<{ reason: { kind: string, detail: string }, outcome: string, exitCode: number }> {
  return JSON.parse(await child.said(`${name}report`))
}
