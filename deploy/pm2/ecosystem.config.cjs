/**
 *   pm2 start deploy/pm2/ecosystem.config.cjs
 *   pm2 reload service        # one after the other: the new one is ready before the old one goes
 */
'use strict'

const { join } = require('node:path')

module.exports = {
  apps: [{
    name: 'service',
    cwd: join(__dirname, '../..'),
    script: 'dist/examples/service/main.js',
    // `reload` needs the cluster mode; with one instance it has nobody to hand over to.
    exec_mode: 'cluster',
    instances: 2,
    // The plugin sends `ready` when the server listens. Without this, PM2 takes a process for ready that listens but still boots.
    wait_ready: true,
    // How long PM2 waits for it, in milliseconds. Then it goes on as if it were ready: longer than the slowest boot.
    listen_timeout: 20_000,
    // delay 1 s + timeouts.total 60 s, and 4 s for the rest. PM2's default is 1.6 s. The plugin reads it from its environment.
    kill_timeout: 65_000,
    // Where there are no signals (Windows): `stop` then sends the message `shutdown`. A reload sends SIGINT all the same.
    shutdown_with_message: process.platform === 'win32',
    env: {
      NODE_ENV: 'production',
      PORT: '3000'
    }
  }]
}
