/**
 *   pm2 start deploy/pm2/ecosystem.config.cjs
 *   pm2 reload service        # one after another: the new process is ready before the old one stops
 */
'use strict'

const { join } = require('node:path')

module.exports = {
  apps: [{
    name: 'service',
    cwd: join(__dirname, '../..'),
    script: 'dist/examples/service/main.js',
    // `reload` needs cluster mode, and a second instance that serves meanwhile.
    exec_mode: 'cluster',
    instances: 2,
    // The plugin sends `ready` when the server listens. Without this, PM2 treats a process as ready while it still
    // boots.
    wait_ready: true,
    // How long PM2 waits for `ready`, in milliseconds. Longer than the slowest boot, because PM2 then continues as if
    // it had come.
    listen_timeout: 20_000,
    // delay 1 s + timeouts.total 60 s, and 4 s to spare. PM2's default is 1.6 s. The plugin reads this value from its
    // environment.
    kill_timeout: 65_000,
    // Windows has no signals. There, `stop` sends the message `shutdown`. A reload sends SIGINT anyway.
    shutdown_with_message: process.platform === 'win32',
    // DATABASE_URL, JWT_KEYS_FILE and the rest: in `.env`, which the service reads from `cwd`.
    env: {
      NODE_ENV: 'production',
      PORT: '3000'
    }
  }]
}
