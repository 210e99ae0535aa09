/** Apache with the modules of one site, in a folder of the test. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const modules = '/usr/lib/apache2/modules'

/**
 * Writes the site `config` into `folder`, and a configuration that loads the modules of its line `a2enmod`. Debian has
 * mpm_event and authz_core on by default. @returns the arguments of Apache
 */
export function apacheArguments (config: string, folder: string): string[] {
  const enabled = /^# +a2enmod (.*)$/m.exec(config)?.[1]?.split(' ') ?? []
  const file = join(folder, 'apache2.conf')
  writeFileSync(join(folder, 'site.conf'), config)
  writeFileSync(file, [
    // mod_proxy_balancer needs a slotmem provider, which a2enmod enables by itself.
    ...['mpm_event', 'authz_core', 'slotmem_shm', ...enabled].map(name => `LoadModule ${name}_module ${modules}/mod_${name}.so`),
    'ServerName localhost',
    `ServerRoot "${folder}"`,
    `DefaultRuntimeDir "${folder}"`,
    `PidFile "${join(folder, 'pid')}"`,
    `ErrorLog "${join(folder, 'error.log')}"`,
    // Apache refuses to serve as root.
    ...(process.getuid?.() === 0 ? ['User www-data', 'Group www-data'] : []),
    `Include "${join(folder, 'site.conf')}"`
  ].join('\n') + '\n')
  return ['-f', file, '-DFOREGROUND']
}
