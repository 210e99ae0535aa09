/**
 * The package as a dependency of a service. Unlike `npm run build`, it changes nothing that another test reads:
 * translated from the sources, which takes a second, or built and packed as npm publishes it.
 */
import { execFileSync } from 'node:child_process'
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

/** Builds the package into a folder, with everything that `npm pack` takes from the repository. */
export function buildPackage (own: string): void {
  mkdirSync(own, { recursive: true })
  for (const file of ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'bin', 'types']) {
    cpSync(join(root, file), join(own, file), { recursive: true })
  }
  const tsc = require.resolve('typescript/bin/tsc')
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', join(own, 'dist')], { cwd: root })
}

/** Builds and packs the package. @returns the path of the tarball */
export function packTarball (directory: string): string {
  const own = join(directory, 'package')
  buildPackage(own)
  const packed = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], { cwd: own, encoding: 'utf8' })
  return join(directory, JSON.parse(packed)[0].filename)
}
