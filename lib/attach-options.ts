/** The options of `attach`: the options of the plugin that do not need the routes of Fastify, `exempt` and `log`. */
import type { IncomingMessage } from 'node:http'
import type { ShutdownOptions, ShutdownState } from '../types/index'
import { checkFunction, checkNames, throwInvalid } from './checks'
import { ShutdownOptionError } from './errors'
import type { Exempt } from './http/plain-exempt'
import { optionNames, resolveOptions, type Settings } from './options'
import { detectPlatform } from './process/platform'
import { createStdoutLog, noLog, type ShutdownLog } from './process/stdout-log'

/** The options of `attach`. All are optional. */
export interface AttachOptions
  extends Omit<ShutdownOptions, 'categories' | 'categorize' | 'errorResponseBuilder' | 'track'> {
  /**
   * Requests that are still served while draining: a list of paths, or a function. They do not prolong lame-duck.
   * @default none
   */
  readonly exempt?: Exempt
  /**
   * Returns the body of the 503, or a promise of it. If it returns an Error or a Response, the status code and
   * Retry-After of this value are not used.
   * @default the same JSON as in Fastify
   */
  readonly errorResponseBuilder?: (request: IncomingMessage, state: ShutdownState) => unknown
  /**
   * What is recorded of each request in flight: nothing, or its method, route and age. A request has a
   * route only with Express.
   * @default 'count'
   */
  readonly track?: 'count' | 'detail'
  /**
   * The log: pino, or an object with the same methods `debug`, `info`, `warn` and `error`. `false`: no log.
   * @default lines of JSON to stdout, from level info
   */
  readonly log?: ShutdownLog | false
}

/** The options with every default filled in. */
export interface AttachSettings {
  readonly settings: Settings
  readonly exempt: Exempt | undefined
  readonly errorResponseBuilder: AttachOptions['errorResponseBuilder']
  readonly log: ShutdownLog
}

/** Options of the plugin that need the routes of Fastify. */
const refused = ['categories', 'categorize']

/**
 * Checks the options and fills in the defaults.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_BUDGET, FST_ERR_SHUTDOWN_ENVIRONMENT
 */
export function resolveAttachOptions (given: AttachOptions): AttachSettings {
  const names = optionNames.filter(name => !refused.includes(name))
  checkNames('options', given, [...names, 'exempt', 'log', ...refused], 'an option')
  const { exempt, log, errorResponseBuilder, ...rest } = given
  for (const name of refused) if (Object.hasOwn(given, name)) throw new ShutdownOptionError(needsRoutes(name))
  if ((rest.track as string) === 'category') throw new ShutdownOptionError(needsRoutes("track: 'category'"))
  return {
    settings: resolveOptions(rest, detectPlatform()),
    exempt: checkExempt(exempt),
    errorResponseBuilder: checkFunction('errorResponseBuilder', errorResponseBuilder),
    log: checkLog(log)
  }
}

function needsRoutes (name: string): string {
  return `'${name}' needs the routes of Fastify, and a plain server has none. Remove it, or use the plugin`
}

function checkExempt (given: Exempt | undefined): Exempt | undefined {
  if (given === undefined || typeof given === 'function') return given
  if (Array.isArray(given) && given.every(path => typeof path === 'string' && path.startsWith('/'))) return given
  return throwInvalid('exempt', "a list of paths that begin with '/', or a function", given)
}

function checkLog (given: ShutdownLog | false | undefined): ShutdownLog {
  if (given === undefined) return createStdoutLog()
  if (given === false) return noLog
  const methods = ['debug', 'info', 'warn', 'error'] as const
  if (given !== null && methods.every(name => typeof given[name] === 'function')) return given
  return throwInvalid('log', 'false, or a logger with the methods debug, info, warn and error', given)
}
