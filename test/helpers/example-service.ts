/** The example service as a process, as it is started in production. */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { run, translate, type Child } from './children'

export interface Example {
  /** The origin of the service. */
  readonly url: string
  readonly child: Child
  /** The lines of the log, parsed. */
  log(): readonly { readonly level: number, readonly msg: string }[]
  /** Waits until this many lines of the log contain this text. @param times @default 1 */
  logged(text: string, times?: number): Promise<void>
  /** Sends a request. The body is parsed if it is JSON. */
  send(method: string, path: string, options?: { readonly body?: unknown, readonly headers?: Record<string, string> }): Promise<Answer>
  /** Sends SIGTERM. @returns the exit code and the outcome of the report */
  stop(): Promise<{ readonly code: number | null, readonly outcome: string | undefined }>
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: any // any: each route has its own
}

/** The package.json of a folder in which the service imports the translated package. */
export const translatedPackage = JSON.stringify({
  name: 'fastify-shutdown',
  exports: { '.': './lib/index.js', './prometheus': './lib/exporters/prometheus.js', './opentelemetry': './lib/exporters/opentelemetry.js' }
})

/** Translates the service to JavaScript. @returns the directory of the test, with `files`; there, `main` looks for `.env` */
export function translateExample (t: Test, files: Readonly<Record<string, string>> = {}): string {
  return translate(t.testdir({ ...files, 'package.json': translatedPackage }), ['lib', 'examples/service'])
}

/** Starts `main.js` with these variables, and does not wait. */
export function spawnExample (t: Test, directory: string, env: NodeJS.ProcessEnv): Child {
  return run(t, { args: [join(directory, 'examples/service/main.js')], cwd: directory, env: { TAP: '', PORT: '0', SHUTDOWN_DELAY: '0', ...env } })
}

/** Starts the service and waits until it listens. @param child one that was spawned before */
export async function startExample (
  t: Test, directory: string, env: NodeJS.ProcessEnv, child: Child = spawnExample(t, directory, env)
): Promise<Example> {
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.process.stdout! }).on('line', line => {
      const found = /Server listening at (http:[^"]+)/.exec(line)?.[1]
      if (found !== undefined) resolve(found)
    })
    void child.ended.then(({ stderr }) => reject(new Error(`The service ended before it listened: ${stderr} ${child.lines.join('\n')}`)))
  })
  const log = (): { level: number, msg: string, shutdown?: { phases?: unknown, outcome?: string } }[] => child.lines.map(line => JSON.parse(line))
  return {
    url,
    child,
    log,
    logged: (text, times) => logged(child, text, times),
    async send (method, path, { body, headers = {} } = {}) {
      const response = await fetch(`${url}${path}`, {
        method, headers: { ...body !== undefined && { 'content-type': 'application/json' }, ...headers }, ...body !== undefined && { body: JSON.stringify(body) }
      })
      const text = await response.text()
      return { status: response.status, headers: response.headers, body: text.startsWith('{') ? JSON.parse(text) : text }
    },
    async stop () {
      child.kill('SIGTERM')
      const { code } = await child.ended
      return { code, outcome: log().find(({ shutdown }) => shutdown?.phases !== undefined)?.shutdown?.outcome }
    }
  }
}

/** Waits until this many lines of a service's log contain this text. */
export async function logged ({ lines, process }: Child, text: string, times = 1): Promise<void> {
  while (lines.filter(line => line.includes(text)).length < times) await once(process.stdout!, 'data')
}

/** Repeats an attempt until it succeeds. The test's own timeout ends it. */
export async function until (succeeds: () => Promise<boolean>): Promise<void> {
  while (!await succeeds()) await sleep(50)
}
