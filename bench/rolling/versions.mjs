/** What was measured: the version of each package, and a fingerprint of this package's own code. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
// The services use the Fastify of the root. `npm run bench` installs another one in bench/.
const root = join(here, '../..')

export const fastifyVersion = () => versionOf('fastify', root)

export function versionOf (name, from = here) {
  if (name === 'fastify-shutdown') return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version
  const paths = createRequire(join(from, 'index.mjs')).resolve.paths(name)
  for (const path of paths) {
    try {
      return JSON.parse(readFileSync(join(path, name, 'package.json'), 'utf8')).version
    } catch {}
  }
  return 'unknown'
}

/** Returns what the code of a contender is known by. This package changes without a new version. */
export function codeOf (name) {
  if (name !== 'fastify-shutdown') return versionOf(name)
  const hash = createHash('sha256')
  const library = process.env.PLUGIN === undefined ? join(root, 'dist/lib') : dirname(process.env.PLUGIN)
  for (const file of readdirSync(library, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.js')).sort()) {
    hash.update(readFileSync(join(library, file)))
  }
  return hash.digest('hex').slice(0, 12)
}
