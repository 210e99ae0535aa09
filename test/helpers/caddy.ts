/** Caddy in a folder of the test. It keeps files of its own in the folders of its user. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export function caddyEnvironment (folder: string): NodeJS.ProcessEnv {
  return { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder }
}

/** Writes `config` into `folder`, without the port for administrators. @returns the arguments of Caddy */
export function caddyArguments (config: string, folder: string): string[] {
  const file = join(folder, 'Caddyfile')
  writeFileSync(file, config.replace(/^\{\n/m, block => `${block}\tadmin off\n`))
  return ['run', '--adapter', 'caddyfile', '--config', file]
}
