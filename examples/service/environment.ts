/**
 * The raw variables, in layers: `.env`, then `.env.<NODE_ENV>`, then the environment of the process. A later layer
 * replaces a variable of an earlier one. An empty value counts as not set.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'

/** A value that is not usable. The message is one line that names the variable, and never contains a secret. */
export class ConfigError extends Error {}

/** Environment by name. */
export type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads and merges the layers. A secret `NAME` may also be in a file, whose path is in `NAME_FILE`, as Docker and
 * Kubernetes provide it.
 *
 * @param secrets the variables that may be in a file
 * @throws ConfigError if a file cannot be read, or if one layer has both `NAME` and `NAME_FILE`
 */
export function readEnvironment (env: Environment, directory: string, secrets: readonly string[]): Environment {
  const dotenv = readDotenv(join(directory, '.env'))
  const environment = env['NODE_ENV'] || dotenv['NODE_ENV'] || 'development'
  // NODE_ENV becomes part of a file name, so only a plain word is used. Other values are refused later.
  const ofEnvironment = /^\w+$/.test(environment) ? readDotenv(join(directory, `.env.${environment}`)) : {}
  const layers = [dotenv, ofEnvironment, env].map(layer => withSecrets(layer, secrets))
  const merged: Environment = Object.assign({}, ...layers)
  return Object.fromEntries(Object.entries({ ...merged, NODE_ENV: environment }).filter(([, value]) => value !== ''))
}

function readDotenv (path: string): Environment {
  try {
    return parseEnv(readFileSync(path, 'utf8')) as Environment
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new ConfigError(`${path} cannot be read: ${codeOf(error)}`)
  }
}

/** Replaces each `NAME_FILE` of a layer by `NAME`, so that a file of a later layer also wins. */
function withSecrets (layer: Environment, secrets: readonly string[]): Environment {
  const result: Record<string, string | undefined> = { ...layer }
  for (const name of secrets) {
    const path = layer[`${name}_FILE`]
    if (path === undefined || path === '') continue
    if (layer[name]) throw new ConfigError(`${name} and ${name}_FILE are both set: remove one of them`)
    result[name] = readSecret(`${name}_FILE`, path)
  }
  return result
}

function readSecret (variable: string, path: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new ConfigError(`${variable} names a file that cannot be read: ${path} (${codeOf(error)})`)
  }
  if (text === '') throw new ConfigError(`${variable} names a file that is empty: ${path}`)
  return text
}

function codeOf (error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? (error as Error).message
}
