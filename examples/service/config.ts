/** The configuration of the service: every variable with its rule and its default, read and checked once at the start. */
import { envSchema } from 'env-schema'
import { ConfigError, readEnvironment, type Variables } from './environment'
import { readKeys, shortestKey } from './keys'

/** The checked configuration. The names are those of the variables, so that a search finds each use. */
export interface Config {
  readonly NODE_ENV: 'development' | 'test' | 'production'
  readonly HOST: string
  readonly PORT: number
  readonly LOG_LEVEL: string
  readonly DATABASE_URL: string
  readonly DATABASE_POOL_SIZE: number
  readonly DATABASE_TIMEOUT: number
  readonly REDIS_URL?: string
  readonly JWT_KEYS_FILE?: string
  readonly TOKEN_LIFETIME: number
  readonly SHIPPING_URL?: string
  readonly SHIPPING_TOKEN?: string
  readonly SHIPPING_TIMEOUT: number
  readonly BREAKER_FAILURES: number
  readonly BREAKER_RESET: number
  readonly SHUTDOWN_DELAY?: number
}

interface Variable {
  readonly type: 'string' | 'integer'
  /** What the value must be. It completes "must be …" in an error message. */
  readonly description: string
  readonly default?: string | number
  readonly enum?: readonly string[]
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  /** JSON Schema's mark for a value that is never shown: a secret. It may be in a file, as `NAME_FILE`. */
  readonly writeOnly?: true
}

const milliseconds = { type: 'integer', description: 'a number of milliseconds, from 1 to 600000', minimum: 1, maximum: 600_000 } as const

/** Every variable, by name. A JSON schema, so `description`, `default` and the rules are data. */
export const variables: Readonly<Record<keyof Config, Variable>> = {
  NODE_ENV: { type: 'string', description: 'development, test or production', enum: ['development', 'test', 'production'] },
  HOST: { type: 'string', description: 'an address to listen on', default: '127.0.0.1' },
  PORT: { type: 'integer', description: 'a port number, from 0 to 65535', minimum: 0, maximum: 65_535, default: 3000 },
  LOG_LEVEL: { type: 'string', description: 'trace, debug, info, warn, error, fatal or silent', enum: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] },
  DATABASE_URL: { type: 'string', description: 'a URL that begins with postgres://', pattern: '^postgres(ql)?://.', writeOnly: true },
  DATABASE_POOL_SIZE: { type: 'integer', description: 'a number of connections, from 1 to 100', minimum: 1, maximum: 100, default: 10 },
  DATABASE_TIMEOUT: { ...milliseconds, default: 5_000 },
  REDIS_URL: { type: 'string', description: 'a URL that begins with redis:// or rediss://', pattern: '^rediss?://.', writeOnly: true },
  JWT_KEYS_FILE: { type: 'string', description: 'the path of a file with one key a line' },
  TOKEN_LIFETIME: { type: 'integer', description: 'a number of seconds, from 60 to 86400', minimum: 60, maximum: 86_400, default: 3_600 },
  SHIPPING_URL: { type: 'string', description: 'a URL that begins with http:// or https://', pattern: '^https?://.' },
  SHIPPING_TOKEN: { type: 'string', description: 'a token of at least 8 characters without spaces', pattern: '^[\\x21-\\x7e]{8,}$', writeOnly: true },
  SHIPPING_TIMEOUT: { ...milliseconds, default: 2_000 },
  BREAKER_FAILURES: { type: 'integer', description: 'a number of failures, from 1 to 1000', minimum: 1, maximum: 1_000, default: 5 },
  BREAKER_RESET: { ...milliseconds, default: 10_000 },
  SHUTDOWN_DELAY: { ...milliseconds, description: 'a number of milliseconds, from 0 to 600000', minimum: 0 }
}

const secrets = Object.keys(variables).filter(name => variables[name as keyof Config].writeOnly === true)

/** Defaults that depend on NODE_ENV. */
const defaults: Readonly<Record<string, Variables>> = {
  development: { LOG_LEVEL: 'debug' },
  test: { LOG_LEVEL: 'info' },
  production: { LOG_LEVEL: 'info' }
}

/** In production, a random key would be another one in each replica. */
const requiredIn: Readonly<Record<string, readonly string[]>> = { production: ['DATABASE_URL', 'JWT_KEYS_FILE'] }

/**
 * Reads the configuration: defaults, then `.env` files, then the environment.
 *
 * @param directory where the `.env` files are
 * @throws ConfigError with one line that names each wrong variable
 */
export function readConfig (env: Variables = process.env, directory = process.cwd()): Config {
  const given = readEnvironment(env, directory, secrets)
  const environment = given['NODE_ENV']!
  const schema = { type: 'object', properties: structuredClone(variables), required: requiredIn[environment] ?? ['DATABASE_URL'] }
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
  const values = secrets.map(name => config[name as keyof Config]).filter(value => typeof value === 'string')
  const passwords = values.filter(value => URL.canParse(value)).map(value => new URL(value).password).filter(password => password !== '')
  return [...values, ...passwords.flatMap(password => [`:${password}@`, `:${decodeURIComponent(password)}@`])].sort((a, b) => b.length - a.length)
}

interface SchemaError {
  readonly keyword: string
  readonly instancePath: string
  readonly params: Readonly<Record<string, unknown>>
}

function explain ({ keyword, instancePath, params }: SchemaError, given: Variables): string {
  if (keyword === 'required') {
    const name = String(params['missingProperty'])
    return `${name} is not set: it must be ${variables[name as keyof Config].description}`
  }
  const name = instancePath.slice(1)
  const { description, writeOnly } = variables[name as keyof Config]
  const received = writeOnly === true ? '' : `, got ${JSON.stringify(given[name]?.slice(0, 100))}`
  return `${name} must be ${description}${received}`
}

// A pattern accepts more than a URL, such as a port of 99999.
function checkUrls (config: Config): void {
  const names = ['DATABASE_URL', 'REDIS_URL', 'SHIPPING_URL'] as const
  const wrong = names.filter(name => config[name] !== undefined && !URL.canParse(config[name]))
  if (wrong.length > 0) throw new ConfigError(wrong.map(name => `${name} must be a valid URL`).join('; '))
}
