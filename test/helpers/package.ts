/**
 * The package as a dependency of a service: a directory whose `node_modules` has it, translated from the sources. It
 * takes a second, and unlike `npm run build` it changes nothing that another test reads.
 */
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { translate } from './children'

const root = join(__dirname, '../..')

/**
 * Creates the directory, with these files and folders of the repository in it. TypeScript is translated to CommonJS. It
 * is inside the repository, so that Node finds the other packages.
 */
export function directoryWithPackage (t: Test, sources: readonly string[]): string {
  const directory = t.testdir({})
  const own = join(directory, 'node_modules/fastify-shutdown')
  translate(join(own, 'dist'), ['lib'])
  for (const file of ['package.json', 'bin/fastify-shutdown.js', 'types/report.schema.json']) cpSync(join(root, file), join(own, file))
  mkdirSync(join(directory, 'node_modules/.bin'))
  symlinkSync('../fastify-shutdown/bin/fastify-shutdown.js', join(directory, 'node_modules/.bin/fastify-shutdown'))
  // A package of another name: in the repository's own one, `fastify-shutdown` would be the built files.
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ name: 'service', private: true }))
  for (const source of sources) {
    if (source.endsWith('.ts')) translate(directory, [source])
    else {
      mkdirSync(join(directory, source, '..'), { recursive: true })
      cpSync(join(root, source), join(directory, source), { recursive: true })
    }
  }
  return directory
}
