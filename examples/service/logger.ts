/**
 * The log: one JSON object a line, without a secret. Libraries put secrets into errors: ioredis the command `AUTH` with
 * its password, `new URL()` the whole URL. So these fields are redacted, and each line is searched for the secrets.
 */
import type { LoggerOptions } from 'pino'
import { secretsOf } from './config'
import type { Config } from './variables'

/** Options of Fastify's logger. */
export function loggerOptions (config: Config): LoggerOptions {
  const conceal = concealer(secretsOf(config))
  return {
    level: config.LOG_LEVEL,
    // Headers are not logged by default. These are named here for the day when they are.
    redact: ['req.headers.authorization', 'req.headers.cookie', 'res.headers["set-cookie"]', 'err.command.args'],
    hooks: { streamWrite: conceal }
  }
}

/** Returns a function that replaces each secret in a text, also where JSON has escaped it. */
export function concealer (secrets: readonly string[]): (text: string) => string {
  const written = secrets.flatMap(secret => [secret, JSON.stringify(secret).slice(1, -1)])
  return text => written.reduce((result, secret) => result.replaceAll(secret, '[secret]'), text)
}
