/**
 * nginx in front, with upstream keep-alive on and its default proxy_next_upstream. deploy/nginx repeats more requests,
 * which would hide failures.
 */
import { execFileSync } from 'node:child_process'
import { find } from './processes.mjs'
import { startProxied } from './proxied.mjs'

const command = find('nginx')

export const nginx = {
  name: 'nginx',
  missing: command === null ? 'nginx (Debian package: nginx)' : null,
  // nginx prints its version on stderr, which the shell redirects.
  version: () => execFileSync('/bin/sh', ['-c', `${command} -v 2>&1`]).toString().trim().split('/').at(-1),
  start: options => startProxied({
    command,
    // Longer than the fail_timeout below. Otherwise nginx would still avoid this instance when the next one restarts.
    minReady: 1_200,
    config,
    args: (file, directory) => ['-e', 'stderr', '-p', directory, '-c', file],
    stopSignal: 'SIGQUIT'
  }, options)
}

/**
 * nginx's checks are passive: with its default fail_timeout of 10 s, all three may count as failed in a quick rolling
 * restart, and the answer is 502, "no live upstreams".
 */
function config ({ port, upstreams, directory }) {
  return `
daemon off;
pid ${directory}/nginx.pid;
error_log stderr error;
worker_processes 1;
${process.getuid() === 0 ? 'user root;' : ''}
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  client_max_body_size 4m;
  keepalive_requests 100000;
  map $http_upgrade $connection_upgrade {
    default upgrade;
    '' '';
  }
  upstream service {
    ${upstreams.map(upstream => `server 127.0.0.1:${upstream} max_fails=1 fail_timeout=1s;`).join('\n    ')}
    keepalive 64;
    keepalive_timeout 60s;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 60s;
    }
  }
}
`
}
