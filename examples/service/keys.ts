/**
 * Signing keys that rotate while the service runs. The file has one key a line: the first signs, all verify.
 *
 * The file is read again every half second, by its path. So it does not matter how it is replaced: in place, by a
 * rename, or through the symlink that Kubernetes switches. Events of the file system do not cover all of these.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import type { Config } from './variables'
import { ConfigError } from './environment'

/** The keys of this moment. Read them at each use, and do not keep them. */
export interface Keys {
  /** Not empty. The first key signs, all verify. */
  readonly all: readonly string[]
}

/** Time between two readings, in milliseconds. */
const interval = 500

/** Opens the keys and follows their file until the app closes. Without a file, the key is random. */
export function openKeys (app: FastifyInstance, config: Config): Keys {
  if (config.JWT_KEYS_FILE === undefined) {
    app.log.warn('JWT_KEYS_FILE is not set: the key is random, and tokens end with this process')
    return { all: [randomBytes(32).toString('base64url')] }
  }
  return followKeys(app, config.JWT_KEYS_FILE, shortestKey(config.NODE_ENV))
}

/** The least length of a key, in characters: RFC 7518 (3.2) requires 32 bytes. Keys for a try-out may be shorter. */
export function shortestKey (environment: Config['NODE_ENV']): number {
  return environment === 'production' ? 32 : 1
}

/**
 * Reads the keys once.
 *
 * @throws ConfigError that names JWT_KEYS_FILE
 */
export function readKeys (path: string, shortest: number): string[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError(`JWT_KEYS_FILE names a file that cannot be read: ${path} (${code})`)
  }
  const keys = linesOf(text)
  if (keys.length === 0) throw new ConfigError(`JWT_KEYS_FILE names a file without a key: ${path}`)
  if (keys.some(key => key.length < shortest)) {
    throw new ConfigError(`JWT_KEYS_FILE names a file with a key of less than ${shortest} characters: ${path}`)
  }
  return keys
}

function followKeys (app: FastifyInstance, path: string, shortest: number): Keys {
  const keys = { all: readKeys(path, shortest) as readonly string[] }
  let last = ''
  let warned: string | undefined
  let isReading = false

  const timer = setInterval(() => {
    // A slow disk must not start a second reading, whose result could be the older one.
    if (isReading) return
    isReading = true
    void readAgain().finally(() => { isReading = false })
  }, interval).unref()
  app.addHook('onClose', async () => clearInterval(timer))
  return keys

  /** A change counts when two readings are equal, because a writer may be in the middle of the file. */
  async function readAgain (): Promise<void> {
    const text = await readFile(path, 'utf8').catch(() => '')
    const isNew = text !== last
    const next = linesOf(text)
    last = text
    if (isNew || next.join('\n') === keys.all.join('\n')) return
    if (next.length === 0 || next.some(key => key.length < shortest) || isCut(text, keys.all)) return warnOnce(text)
    app.log.info({ keys: next.length }, 'JWT_KEYS_FILE has changed: the first key signs, all keys verify')
    keys.all = next
  }

  function warnOnce (text: string): void {
    if (text === warned) return
    warned = text
    app.log.warn('JWT_KEYS_FILE is empty, missing, cut, or has a short key, so the keys before remain')
  }
}

/**
 * Whether a text may be the beginning of a longer one: its last line has no end and is not a known key, and a known key
 * is missing. To accept it would lock out the users of that key.
 */
export function isCut (text: string, known: readonly string[]): boolean {
  const keys = linesOf(text)
  return !text.endsWith('\n') && !known.includes(keys.at(-1) ?? '') && known.some(key => !keys.includes(key))
}

function linesOf (text: string): string[] {
  return text.split('\n').map(line => line.trim()).filter(line => line !== '')
}
