/** Reads and parses the files of deployments. A PM2 ecosystem in JavaScript is executed, as PM2 does. */
import { existsSync, readFileSync } from 'node:fs'
import { basename, extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { ManifestError, readManifest, readUnit, type Reading } from './manifests'

const usualNames = [
  'ecosystem.config.js', 'ecosystem.config.cjs', 'ecosystem.config.json', 'compose.yaml', 'compose.yml',
  'docker-compose.yaml', 'docker-compose.yml', 'deployment.yaml', 'deployment.yml'
]

/** Returns the files of the current directory that have a usual name. */
export function findFiles (): string[] {
  return usualNames.filter(name => existsSync(name))
}

/**
 * Reads one file; `-` is standard input.
 *
 * @throws ManifestError, which names the file
 */
export async function readDeployments (name: string): Promise<Reading> {
  try {
    return await parse(name)
  } catch (error) {
    if (error instanceof ManifestError) throw error
    if (error instanceof Error && 'code' in error && error.code === 'EISDIR') {
      throw new ManifestError(
        `${name} is a directory: check its output, kubectl kustomize ${name} | fastify-shutdown budget -`
      )
    }
    throw new ManifestError(`${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

async function parse (name: string): Promise<Reading> {
  const content = readFileSync(name === '-' ? 0 : name, 'utf8')
  if (['.js', '.cjs', '.mjs'].includes(extname(name))) {
    const ecosystem: { default: unknown } = await import(pathToFileURL(resolve(name)).href)
    return readManifest(name, [ecosystem.default])
  }
  if (extname(basename(name)) === '.service' || /^\[(?:Unit|Service)\]\s*$/m.test(content)) {
    return readUnit(name, content)
  }
  const documents = [...parseAllDocuments(content, { merge: true, logLevel: 'error' })]
  const problem = documents.flatMap(document => document.errors)[0]
  if (problem !== undefined) throw new ManifestError(`${name}: ${problem.message.trim()}\n(render a template first)`)
  return readManifest(name, documents.map(document => document.toJS()))
}
