/**
 * Caddy in front, with checks on the readiness route. Their interval is shorter than in deploy/caddy, and the same as for
 * HAProxy. After a refused connection Caddy uses the next instance.
 */
import { execFileSync } from 'node:child_process'
import { find } from './processes.mjs'
import { startProxied } from './proxied.mjs'

const command = find('caddy')

export const caddy = {
  name: 'Caddy',
  missing: command === null ? 'caddy (Debian package: caddy)' : null,
  version: () => execFileSync(command, ['version']).toString().match(/v?(\d[\d.]*)/)[1],
  start: options => startProxied({
    command,
    // Longer than the probe after which Caddy uses the instance again.
    minReady: 700,
    config,
    args: file => ['run', '--adapter', 'caddyfile', '--config', file],
    // Caddy's own files.
    env: directory => ({ HOME: directory, XDG_CONFIG_HOME: directory, XDG_DATA_HOME: directory }),
    stopSignal: 'SIGTERM'
  }, options)
}

function config ({ port, upstreams }) {
  return `
{
  admin off
  auto_https off
  grace_period 1s
}
:${port} {
  bind 127.0.0.1
  reverse_proxy ${upstreams.map(upstream => `127.0.0.1:${upstream}`).join(' ')} {
    lb_policy round_robin
    lb_try_duration 2s
    lb_try_interval 50ms
    health_uri /ready
    health_interval 200ms
    health_timeout 1s
    health_status 200
    transport http {
      dial_timeout 2s
      response_header_timeout 60s
      keepalive 60s
    }
  }
}
`
}
