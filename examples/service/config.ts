/** Reads and checks the configuration, once, at the start. An error is one line that names the variable. */
import { envSchema } from 'env-schema'
import { ConfigError, readEnvironment, type Environment } from './environment'
import { readKeys, shortestKey } from './keys'
import { defaults, requiredInProduction, variables, type Config } from './variables'

const names = Object.keys(variables) as (keyof Config)[]
const secrets = names.filter(name => variables[name].writeOnly === true)

/**
 * Reads the configuration: defaults, then `.env` files, then the environment.
 *
 * @param directory where the `.env` files are
 * @throws ConfigError with one line that names each wrong variable
 */
export function readConfig (env: Environment = process.env, directory = process.cwd()): Config {
  const given = readEnvironment(env, directory, secrets)
  const environment = given['NODE_ENV']!
  const schema = {
    type: 'object',
    properties: structuredClone(variables),
    required: ['DATABASE_URL', ...environment === 'production' ? requiredInProduction : []]
  }
  let config: Config
  try {
    config = envSchema<Config>({ schema, data: { ...defaults[environment], ...given }, env: false })
  } catch (error) {
    const { errors } = error as { readonly errors?: readonly SchemaError[] }
    if (errors === undefined) throw error
    throw new ConfigError([...new Set(errors.map(each => explain(each, given)))].join('; '))
  }
  checkUrls(config)
  if (config.JWT_KEYS_FILE !== undefined) readKeys(config.JWT_KEYS_FILE, shortestKey(config.NODE_ENV))
  return Object.freeze(config)
}

/**
 * Returns the texts that must not be in a log, longest first: the secrets, and the passwords of URLs. A password counts
 * with its `:` and `@`, because a short one such as `postgres` is also an ordinary word.
 */
export function secretsOf (config: Config): string[] {
  const values = secrets.map(name => config[name]).filter(value => typeof value === 'string')
  const passwords = values.filter(value => URL.canParse(value))
    .map(value => new URL(value).password)
    .filter(password => password !== '')
    .flatMap(password => [password, decodeURIComponent(password)])
  return [...values, ...passwords.map(password => `:${password}@`)].sort((a, b) => b.length - a.length)
}

interface SchemaError {
  readonly keyword: string
  readonly instancePath: string
  readonly params: Readonly<Record<string, unknown>>
}

function explain ({ keyword, instancePath, params }: SchemaError, given: Environment): string {
  const isMissing = keyword === 'required'
  const name = (isMissing ? params['missingProperty'] : instancePath.slice(1)) as keyof Config
  const { description, writeOnly } = variables[name]
  if (isMissing) return `${name} is not set: it must be ${description}`
  const received = writeOnly === true ? '' : `, got ${JSON.stringify(given[name]?.slice(0, 100))}`
  return `${name} must be ${description}${received}`
}

// A pattern accepts more than a URL, such as a port of 99999.
function checkUrls (config: Config): void {
  const urls = ['DATABASE_URL', 'REDIS_URL', 'SHIPPING_URL'] as const
  const wrong = urls.filter(name => config[name] !== undefined && !isUrl(config[name]))
  if (wrong.length > 0) throw new ConfigError(wrong.map(name => `${name} must be a valid URL`).join('; '))
}

// A `%` in a password must be written as `%25`.
function isUrl (value: string): boolean {
  try {
    decodeURIComponent(new URL(value).password)
    return true
  } catch {
    return false
  }
}
