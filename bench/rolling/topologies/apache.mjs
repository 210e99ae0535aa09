/**
 * Apache in front: mod_proxy_balancer, with mod_proxy_hcheck on the readiness route. After a refused connection it uses
 * the next instance.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { find } from './processes.mjs'
import { startProxied } from './proxied.mjs'

const command = find('apache2')
const modules = '/usr/lib/apache2/modules'

export const apache = {
  name: 'Apache',
  missing: command === null || !existsSync(modules) ? 'apache2 (Debian package: apache2-bin)' : null,
  version: () => execFileSync(command, ['-v']).toString().match(/Apache\/(\d[\d.]*)/)[1],
  start: options => startProxied({
    command,
    // Longer than the 2 probes after which Apache uses the instance again.
    minReady: 700,
    config,
    args: file => ['-f', file, '-DFOREGROUND'],
    stopSignal: 'SIGTERM'
  }, options)
}

const loaded = ['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'proxy_balancer', 'proxy_hcheck', 'slotmem_shm', 'lbmethod_byrequests']

/**
 * 2 probes of 200 ms, as for HAProxy. One process, because Apache closes the connections of its clients when it ends a
 * process that it no longer needs.
 */
function config ({ port, upstreams, directory }) {
  return `
${loaded.map(name => `LoadModule ${name}_module ${modules}/mod_${name}.so`).join('\n')}
ServerRoot "${directory}"
DefaultRuntimeDir "${directory}"
PidFile "${directory}/apache.pid"
ErrorLog "${directory}/error.log"
LogLevel crit
ServerName localhost
${process.getuid() === 0 ? 'User www-data\nGroup www-data' : ''}
ServerLimit 1
StartServers 1
ThreadsPerChild 200
ThreadLimit 200
MaxRequestWorkers 200
MaxSpareThreads 200
MaxKeepAliveRequests 0
KeepAliveTimeout 60
Listen 127.0.0.1:${port}
<Proxy "balancer://service">
  ${upstreams.map(upstream => `BalancerMember "http://127.0.0.1:${upstream}" hcmethod=GET hcuri=/ready hcinterval=200ms hcfails=2 hcpasses=2 ttl=60 timeout=60 connectiontimeout=2 upgrade=websocket`).join('\n  ')}
  ProxySet lbmethod=byrequests
</Proxy>
ProxyPass "/" "balancer://service/"
`
}
