/**
 * HAProxy with the probes of the rolling-restart proof, and the retries of deploy/haproxy. The requests that it repeats
 * are counted from its log. HTTP/2 goes from the client to the instance on a port of its own. Only the instances that
 * are restarted get WebSockets. A probe whose answer is late does not count as failed. Otherwise, on a busy machine,
 * all instances would be down at the same time.
 */
import { haproxy as rolling } from '../rolling/topologies/haproxy.mjs'
import { freePort } from '../rolling/orders.mjs'
import { find } from '../rolling/topologies/processes.mjs'
import { startProxied } from '../rolling/topologies/proxied.mjs'

export const { name, missing, version } = rolling

/** Instances that are restarted. The third one runs during the whole soak. */
export const restarted = 2

/** @param http2Sockets a directory with a socket file for each instance, named after its port */
export async function start ({ http2Sockets, ...options }) {
  const http2Port = await freePort()
  const place = await startProxied({
    command: find('haproxy'),
    // Longer than the 2 probes after which HAProxy uses the instance again.
    minReady: 700,
    config: place => config({ ...place, http2Port, http2Sockets }),
    args: file => ['-db', '-f', file],
    stopSignal: 'SIGTERM'
  }, options)
  return { ...place, http2Url: `http://127.0.0.1:${http2Port}` }
}

/** @returns the unusual requests in a text of HAProxy's log: each line is of the format below */
export function readLog (text) {
  const lines = text.matchAll(/^haproxy \S+:(\d+) (\S+) (\d+) (\S+) ([+\d]+) (\d+) "(.*)"$/gm)
  return Array.from(lines, ([, clientPort, server, status, ended, retries, totalMs, request]) => ({
    clientPort: Number(clientPort), server, status: Number(status), ended, retries: Number(retries.replace('+', '')), totalMs: Number(totalMs), request
  }))
}

function config ({ port, http2Port, http2Sockets, upstreams }) {
  const servers = (count, line) => upstreams.slice(0, count).map(line).join('\n  ')
  const track = (upstream, n) => `server instance${n} 127.0.0.1:${upstream} track service/instance${n}`
  return `
global
  maxconn 4000
  log stdout format raw local0
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout http-keep-alive 60s
  timeout check 2s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response 503
  log global
  option dontlog-normal
  log-format "haproxy %ci:%cp %s %ST %tsc %rc %Tt %{+Q}r"
  balance roundrobin
  http-reuse safe
  default-server pool-purge-delay 5s
frontend public
  bind 127.0.0.1:${port}
  use_backend restarted if { path /ws }
  default_backend service
  http-request disable-l7-retry unless METH_GET || METH_HEAD || METH_OPTIONS
frontend http2
  bind 127.0.0.1:${http2Port} proto h2
  default_backend service_http2
  http-request disable-l7-retry unless METH_GET || METH_HEAD || METH_OPTIONS
backend service
  http-request disable-l7-retry unless METH_GET || METH_HEAD || METH_OPTIONS
  option httpchk
  http-check send meth GET uri /ready
  http-check expect status 200
  default-server check inter 200ms fall 2 rise 2 pool-purge-delay 5s
  ${servers(upstreams.length, (upstream, n) => `server instance${n} 127.0.0.1:${upstream}`)}
backend restarted
  ${servers(restarted, track)}
backend service_http2
  http-request disable-l7-retry unless METH_GET || METH_HEAD || METH_OPTIONS
  ${servers(upstreams.length, (upstream, n) => `server instance${n} unix@${http2Sockets}/${upstream} proto h2 track service/instance${n}`)}
`
}
