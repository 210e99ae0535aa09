/**
 * HAProxy in front, with checks on the readiness route and connections that are reused. It does not repeat the requests
 * that deploy/haproxy repeats, because this would hide failures.
 */
import { execFileSync } from 'node:child_process'
import { find } from './processes.mjs'
import { startProxied } from './proxied.mjs'

const command = find('haproxy')

export const haproxy = {
  name: 'HAProxy',
  missing: command === null ? 'haproxy (Debian package: haproxy)' : null,
  version: () => execFileSync(command, ['-v']).toString().match(/version (\d[\d.]*)/)[1],
  start: options => startProxied({
    command,
    // Longer than the 2 probes after which HAProxy uses the instance again.
    minReady: 700,
    config,
    args: file => ['-db', '-f', file],
    stopSignal: 'SIGTERM'
  }, options)
}

/**
 * 2 probes of 200 ms: an instance that is no longer ready gets nothing new after 400 ms, which is less than its
 * lame-duck.
 */
function config ({ port, upstreams }) {
  return `
global
  maxconn 4000
defaults
  mode http
  timeout connect 2s
  timeout check 2s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout http-keep-alive 60s
  retries 3
  option redispatch 1
frontend public
  bind 127.0.0.1:${port}
  default_backend service
backend service
  balance roundrobin
  http-reuse safe
  option httpchk
  http-check send meth GET uri /ready
  http-check expect status 200
  default-server check inter 200ms fall 2 rise 2
  ${upstreams.map((upstream, n) => `server instance${n} 127.0.0.1:${upstream}`).join('\n  ')}
`
}
