/**
 * Projects of a new user: an empty folder outside of the repository, a real `npm install` of the packed plugin, and
 * programs that are the blocks of the documents.
 *
 * Other packages come from the repository's node_modules by a registry on the loopback address. With
 * `NEWCOMER_REGISTRY=default` they come from the registry that npm is configured for.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { lineWith, run, shortDirectory, type Child, type Command } from './children'
import { get } from './fastify-cli'
import { startRegistry } from './local-registry'
import { packTarball } from './package'

const root = join(__dirname, '../..')
const exec = promisify(execFile)

/** Whether the packages come from the registry that npm is configured for. */
export const isOnline = process.env['NEWCOMER_REGISTRY'] === 'default'

/** Returns the block of a document whose first line is this comment. */
export function block (document: string, file: string): string {
  const blocks = [...readFileSync(join(root, document), 'utf8').matchAll(/^```[jt]s\n(.*?)^```/gms)].map(([, code]) => code!)
  const found = blocks.filter(code => code.startsWith(`// ${file}\n`))
  if (found.length !== 1) throw new Error(`${document} has ${found.length} blocks that begin with '// ${file}'`)
  return found[0]!
}

/** Returns this command, which is a line of a block of the document. */
export function line (document: string, command: string): string {
  const blocks = [...readFileSync(join(root, document), 'utf8').matchAll(/^```sh\n(.*?)^```/gms)].map(([, code]) => code!)
  if (!blocks.some(code => code.split('\n').includes(command))) throw new Error(`${document} has no command '${command}'`)
  return command
}

/** The same program on a free port, because another test may use the one of the documents. */
export function onFreePort (code: string): string {
  const parts = code.split(/(?<=port: |listen\()3000\b/)
  if (parts.length !== 2) throw new Error(`Expected one port 3000: ${code}`)
  return parts.join('0')
}

export interface Project {
  readonly folder: string
  /** Writes a file. */
  write(file: string, code: string): void
  /** Runs a command of npm. @returns its output */
  npm(...args: string[]): Promise<string>
  /** Runs `npm install …`, which is a line of a document. The plugin comes from the tarball. */
  follow(document: string, command: string): Promise<string>
  /** Installs the plugin from the tarball, and other packages. */
  install(...args: string[]): Promise<string>
  /** Runs a program in the folder. @returns its output. It rejects if the exit code is not 0 */
  exec(program: string, ...args: string[]): Promise<string>
  /** Starts a program in the folder. */
  start(t: Test, args: readonly string[], options?: Partial<Command>): Child
}

/** Packs the plugin. @returns a function that creates an empty project */
export async function createProjects (t: Test): Promise<(name: string) => Project> {
  const directory = shortDirectory(t)
  const tarball = packTarball(directory)
  // Without the variables of tap, and locally without the settings of the user.
  const { PATH, HOME } = process.env
  const env = isOnline
    ? { PATH, HOME }
    : {
        PATH,
        HOME: directory,
        npm_config_registry: await startRegistry(t),
        npm_config_ignore_scripts: 'true',
        npm_config_audit: 'false',
        npm_config_update_notifier: 'false'
      }
  return name => {
    const folder = join(directory, name)
    mkdirSync(folder, { recursive: true })
    const output = async (program: string, args: readonly string[]): Promise<string> => {
      try {
        return (await exec(program, args, { cwd: folder, env })).stdout
      } catch (error) {
        const { message, stdout, stderr } = error as Error & { stdout: string, stderr: string }
        throw new Error(`${message}\n${stdout}\n${stderr}`)
      }
    }
    return {
      folder,
      write (file, code) {
        mkdirSync(dirname(join(folder, file)), { recursive: true })
        writeFileSync(join(folder, file), code)
      },
      npm: async (...args) => await output('npm', args),
      follow: async (document, command) => {
        const [program, ...args] = line(document, command).split(' ')
        return await output(program!, args.map(arg => arg === 'fastify-shutdown' ? tarball : arg))
      },
      install: async (...args) => await output('npm', ['install', tarball, ...args]),
      exec: async (program, ...args) => await output(program, args),
      start: (t, args, options) => run(t, { args, cwd: folder, ...options })
    }
  }
}

/** Sends a request to a program that has started, then SIGTERM, and checks how it ends. */
export async function answersAndShutsDown (t: Test, child: Child, answer: string): Promise<void> {
  const line = await lineWith(child, 'Server listening at http://127.0.0.1:')
  t.equal(await get(Number(/127\.0\.0\.1:(\d+)/.exec(line)![1]), '/'), `200 ${answer}`)
  child.kill('SIGTERM')
  const { code, signal, stderr } = await child.ended
  t.strictSame([code, signal, stderr], [0, null, ''])
  t.equal(child.lines.filter(each => /"msg":"shutdown: clean in \d+ ms"/.test(each)).length, 1)
}
