/** PM2 in cluster mode without a proxy, `pm2 reload`; a daemon of our own in a directory of our own. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../orders.mjs'
import { ordinaryPriority } from './processes.mjs'

const require = createRequire(import.meta.url)
const run = promisify(execFile)
const instances = 3

/**
 * As in deploy/pm2. PM2's default of 1 600 ms is less than a lame-duck of a second and an answer of a second together:
 * SIGKILL comes in between.
 */
const killTimeout = 65_000

export const pm2 = {
  name: 'PM2 reload',
  missing: null,
  version: () => require('pm2/package.json').version,
  async start ({ script, env, directory, log, note }) {
    const port = await freePort()
    const file = join(directory, 'ecosystem.config.json')
    const app = {
      name: 'service',
      script,
      exec_mode: 'cluster',
      instances,
      wait_ready: true,
      listen_timeout: 15_000,
      kill_timeout: killTimeout,
      pmx: false,
      env: { ...env, PORT: String(port) }
    }
    await writeFile(file, JSON.stringify({ apps: [app] }))
    await pm2Command('start', file)

    return {
      url: `http://127.0.0.1:${port}`,
      async restart (times) {
        const ends = []
        while (ends.length < times) {
          const began = performance.now()
          note('reload of all instances, one after another')
          await pm2Command('reload', 'service')
          // PM2 does not report how an old process ended, only when all are replaced.
          for (let n = 0; n < instances; n++) ends.push({ ms: (performance.now() - began) / instances, how: 'not told' })
        }
        return ends
      },
      stop: () => pm2Command('kill')
    }

    async function pm2Command (...args) {
      const command = run(process.execPath, [require.resolve('pm2/bin/pm2'), ...args], { env: { ...process.env, PM2_HOME: join(directory, 'pm2'), PM2_DISCRETE_MODE: 'true', NO_COLOR: '1' } })
      ordinaryPriority(command.child)
      const { stdout, stderr } = await command
      log?.(stdout + stderr)
    }
  }
}
