/** Apps that `fastify generate` makes and `fastify start` runs, each as a process of its own. */
import { execFile } from 'node:child_process'
import { appendFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { run, type Child } from './children'

export const exec = promisify(execFile)
export const cli = require.resolve('fastify-cli/cli.js')

export interface Options {
  /** The options of the plugin, as code. */
  readonly options?: string
  /** The file of the plugin exports the plugin itself instead of a function that registers it. */
  readonly direct?: boolean
  /** More arguments of `fastify start`. */
  readonly args?: readonly string[]
  readonly esm?: boolean
  /** The app is wrapped in fastify-plugin, so that it is not encapsulated. */
  readonly wrapped?: boolean
}

let apps = 0

/** Generates an app with a slow route, a slow resource and the plugin, which is translated. @param directory as `translate` returns it */
export async function generate (directory: string, { options = '{}', direct = false, esm = false, wrapped = false }: Options): Promise<string> {
  const app = join(directory, `app-${++apps}`)
  const library = JSON.stringify(join(directory, 'lib/index.js'))
  await exec(process.execPath, [cli, 'generate', app, ...esm ? ['--esm'] : []])
  const [header, exported] = esm
    ? ['import { createRequire } from \'node:module\'\nconst require = createRequire(import.meta.url)\n', 'export default']
    : ['', 'module.exports =']
  const registered = `require('fastify-plugin')(async function (fastify) {
    fastify.register(require(${library}), {
      resources: { database: { close: async () => { await new Promise(resolve => setTimeout(resolve, 700)); console.log('database closed') } } },
      onReport: ({ outcome, exitCode }) => console.log('report ' + outcome + ' ' + exitCode),
      ...${options}
    })
  })`
  if (wrapped) appendFileSync(join(app, 'app.js'), "module.exports = require('fastify-plugin')(module.exports)\n")
  writeFileSync(join(app, 'plugins/shutdown.js'), `${header}${exported} ${direct ? `require(${library})` : registered}\n`)
  writeFileSync(join(app, 'routes/slow.js'), `${header}${exported} async function (fastify) {
    fastify.get('/slow', async () => {
      console.log('slow begins')
      await new Promise(resolve => setTimeout(resolve, 1500))
      return fastify.shutdownState.phase
    })
  }\n`)
  return app
}

export interface Started extends Child {
  readonly port: number
  /** Changes a file of the app. */
  touch(): void
}

/** Generates an app and starts it. */
export async function start (t: Test, directory: string, options: Options): Promise<Started> {
  return await startApp(t, await generate(directory, options), 'app.js', options.args)
}

/** Starts an app, and waits until it listens. @param args more arguments of `fastify start` */
export async function startApp (t: Test, app: string, file: string, args: readonly string[] = []): Promise<Started> {
  const child = run(t, {
    args: [cli, 'start', ...args, '-l', 'info', '-a', '127.0.0.1', file],
    cwd: app,
    // fastify-cli takes `-p 0` as no port at all, and listens on 3000.
    env: { PORT: '0' },
    group: args.includes('-w')
  })
  const port = await new Promise<number>((resolve, reject) => {
    const look = setInterval(() => {
      const port = /Server listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(child.lines.join('\n'))?.[1]
      if (port !== undefined) {
        clearInterval(look)
        resolve(Number(port))
      }
    }, 20)
    void child.ended.then(({ stderr }) => {
      clearInterval(look)
      reject(new Error(`It did not start: ${child.lines.join(' | ')} ${stderr}`))
    })
  })
  return { ...child, port, touch: () => appendFileSync(join(app, 'routes/slow.js'), '\n') }
}

/** Sends a request. @returns the status and the body */
export function get (port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    http.get({ port, path, host: '127.0.0.1', agent: false }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', chunk => { body += String(chunk) }).once('end', () => resolve(`${response.statusCode} ${body}`))
    }).once('error', reject)
  })
}
