/** The code blocks of docs/testing.md as a project, which has the package itself in its node_modules. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { translate } from './children'

const root = join(__dirname, '../..')

/** The blocks that begin with their file name, and the tests between them, which belong to `shutdown.test.js`. */
export function filesOfPage (): Map<string, string> {
  const files = new Map<string, string>()
  for (const [, code] of readFileSync(join(root, 'docs/testing.md'), 'utf8').matchAll(/^```js\n(.*?)^```/gms)) {
    const name = /^\/\/ (\S+\.js)\n/.exec(code!)?.[1]
    if (name !== undefined) files.set(name, code!)
    else if (code!.startsWith('test(')) files.set('shutdown.test.js', `${files.get('shutdown.test.js')!}\n${code!}`)
  }
  return files
}

/** Writes the package as it is installed, and these files of the page, into a directory inside this repository. */
export function writeProject (directory: string, names: readonly string[], type: 'module' | 'commonjs'): string {
  const installed = join(directory, 'node_modules/fastify-shutdown')
  mkdirSync(installed, { recursive: true })
  translate(join(installed, 'dist'), ['lib', 'types'])
  copyFileSync(join(root, 'package.json'), join(installed, 'package.json'))
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ type }))
  const files = filesOfPage()
  for (const name of names) {
    const code = files.get(name)
    if (code === undefined) throw new Error(`docs/testing.md has no file ${name}`)
    writeFileSync(join(directory, name), code)
  }
  return directory
}
