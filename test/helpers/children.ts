/**
 * Child processes for the tests of signals and exits. They run plain JavaScript, as in production: a TypeScript child of tap
 * has signal listeners of tap's own, and takes seconds to start.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import ts from 'typescript'
import type { Service } from '../process/fixtures/service'

const root = join(__dirname, '../..')

/** The arguments by which tap makes Node run TypeScript. */
export const typescript = process.execArgv.filter(argument => argument.includes('@tapjs/typescript'))

/** A temporary directory with a short path, unlike `t.testdir()`: the path of a unix socket ends at 107 characters. */
export function shortDirectory (t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'fastify-shutdown-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Translates the package and the fixtures to JavaScript. The directory is inside the package, so that Node finds its dependencies. */
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
  /** Waits for a line that begins with these words. @returns the rest of the line */
  said(words: string): Promise<string>
  /** How many lines begin with these words. */
  count(words: string): number
  /** How it ended, and when (`performance.now()`, in milliseconds). */
  readonly ended: Promise<{ readonly code: number | null, readonly signal: NodeJS.Signals | null, readonly at: number, readonly stderr: string }>
  kill(signal: NodeJS.Signals): void
}

export interface Command {
  readonly program?: string
  readonly args: readonly string[]
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Whether it runs in a process group of its own, as the foreground job of a terminal. */
  readonly group?: boolean
}

export function run (t: Test, { program = process.execPath, args, cwd, env = {}, group = false }: Command): Child {
  // `env -i`: tap adds variables to the environment of each child, and the platform must be the plain one.
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
        // It has ended in the meantime.
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
        else reject(new Error(`The child ended without the line '${words}': ${lines.join(' | ')} ${stderr}`))
      }
      waiting.add(look)
      look()
    }),
    count: words => lines.filter(line => line.startsWith(words)).length,
    kill: signal => { process.kill(group ? -child.pid! : child.pid!, signal) }
  }
}

/** Waits for a line that contains this text, as in a log of JSON. @returns the line */
export function lineWith ({ process: child, lines, ended }: Child, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const line = lines.find(each => each.includes(text))
      if (line !== undefined) resolve(line)
    }
    child.stdout!.on('data', () => setImmediate(look))
    void ended.then(({ stderr }) => {
      look()
      reject(new Error(`The child ended without a line with '${text}': ${lines.join(' | ')} ${stderr}`))
    })
    look()
  })
}

export interface RunningService extends Child {
  readonly port: number
  /** Sends a request. Never rejects: without a response, `status` is `null`. */
  get(path: string, port?: number): Promise<Answer>
  /** Sends a request that takes this long, and waits until its handler runs. The answer is inside an object, so that `await` does not wait for it. */
  slow(ms: number, instance?: 'first' | 'second'): Promise<{ readonly answer: Promise<Answer> }>
}

export interface Answer {
  readonly status: number | null
  /** Whether the body is complete. */
  readonly whole: boolean
  readonly body: string
}

/** Starts the fixture `service.ts`, and waits for the line `until`. @default 'ready' */
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

/** The reason, the outcome and the exit code of the report. */
export async function report (child: Child, name = ''): Promise<{ reason: { kind: string, detail: string }, outcome: string, exitCode: number }> {
  return JSON.parse(await child.said(`${name}report`))
}

/** Waits until the first signal has begun the shutdown, and then as long as a person does: an earlier signal is a duplicate. */
export async function pauseBeforeSecondSignal (service: Child): Promise<void> {
  await service.said('draining')
  await new Promise(resolve => { setTimeout(resolve, 400) })
}
