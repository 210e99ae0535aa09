/** Every variable of the configuration, with its rule and its default. The README has the same table in words. */

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
  readonly STATUS_PAGE: number
  readonly OTEL_EXPORTER_OTLP_ENDPOINT?: string
}

/** The rule of one variable, as a JSON schema. */
export interface Variable {
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

const environments = ['development', 'test', 'production']
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** Every variable, by name. */
export const variables: Readonly<Record<keyof Config, Variable>> = {
  NODE_ENV: oneOf(environments),
  HOST: text('an address to listen on', { default: '127.0.0.1' }),
  PORT: integer('a port number', 0, 65_535, 3000),
  LOG_LEVEL: oneOf(levels),
  DATABASE_URL: text('a URL that begins with postgres://', { pattern: '^postgres(ql)?://.', writeOnly: true }),
  DATABASE_POOL_SIZE: integer('a number of connections', 1, 100, 10),
  DATABASE_TIMEOUT: integer('a number of milliseconds', 1, 600_000, 5_000),
  REDIS_URL: text('a URL that begins with redis:// or rediss://', { pattern: '^rediss?://.', writeOnly: true }),
  JWT_KEYS_FILE: text('the path of a file with one key a line'),
  TOKEN_LIFETIME: integer('a number of seconds', 60, 86_400, 3_600),
  SHIPPING_URL: text('a URL that begins with http:// or https://', { pattern: '^https?://.' }),
  SHIPPING_TOKEN: text('a token of at least 8 characters without spaces', {
    pattern: '^[\\x21-\\x7e]{8,}$', writeOnly: true
  }),
  SHIPPING_TIMEOUT: integer('a number of milliseconds', 1, 600_000, 2_000),
  BREAKER_FAILURES: integer('a number of failures', 1, 1_000, 5),
  BREAKER_RESET: integer('a number of milliseconds', 1, 600_000, 10_000),
  SHUTDOWN_DELAY: integer('a number of milliseconds', 0, 600_000),
  STATUS_PAGE: integer('1 or 0', 0, 1, 0),
  OTEL_EXPORTER_OTLP_ENDPOINT: text('a URL that begins with http:// or https://', { pattern: '^https?://.' })
}

/** Defaults that depend on NODE_ENV. */
export const defaults: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  development: { LOG_LEVEL: 'debug' },
  test: { LOG_LEVEL: 'info' },
  production: { LOG_LEVEL: 'info' }
}

/** Required in production, in addition: a random key would be another one in each replica. */
export const requiredInProduction: readonly (keyof Config)[] = ['JWT_KEYS_FILE']

function text (description: string, rule: Partial<Variable> = {}): Variable {
  return { type: 'string', description, ...rule }
}

function oneOf (values: readonly string[]): Variable {
  return { type: 'string', description: `one of ${values.join(', ')}`, enum: values }
}

function integer (what: string, minimum: number, maximum: number, standard?: number): Variable {
  const description = `${what}, from ${minimum} to ${maximum}`
  return { type: 'integer', description, minimum, maximum, ...standard !== undefined && { default: standard } }
}
