/** nginx in a folder of the test. Only root may write to nginx's default paths. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The directives of the `http` block that name a folder for temporary files. nginx creates each of them at its start. */
const temporary = ['client_body_temp_path', 'proxy_temp_path', 'fastcgi_temp_path', 'uwsgi_temp_path', 'scgi_temp_path']

/**
 * Writes `config` into `folder`, with nothing added but these paths and without an access log.
 * @returns the arguments of nginx: errors go to its stderr, the pid file into `folder`
 */
export function nginxArguments (config: string, folder: string): string[] {
  const file = join(folder, 'nginx.conf')
  const paths = temporary.map(directive => `  ${directive} ${join(folder, directive)};\n`).join('')
  writeFileSync(file, config.replace(/^http \{\n/m, block => `${block}  access_log off;\n${paths}`))
  // As root, nginx gives its workers another user, which may not have access to the folder.
  const user = process.getuid?.() === 0 ? 'user root; ' : ''
  const directives = `${user}pid ${join(folder, 'pid')}; lock_file ${join(folder, 'lock')}; error_log stderr emerg;`
  return ['-c', file, '-p', folder, '-e', 'stderr', '-g', directives]
}
