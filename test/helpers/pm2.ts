/** A PM2 daemon of a test's own. */
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { shortDirectory } from './children'

export interface Pm2 {
  /** The folder of the daemon, which is removed after the test. */
  readonly home: string
  /** Runs a command of PM2. @returns its output */
  run (...args: string[]): Promise<string>
  /** Starts an app. @returns once PM2 counts it as started */
  start (app: object): Promise<void>
}

/**
 * @param env more variables of the daemon, and of the apps
 * @param cwd the working directory, where PM2 looks for a script
 */
export function createPm2 (t: Test, env: NodeJS.ProcessEnv = {}, cwd?: string): Pm2 {
  const home = shortDirectory(t)
  const run = async (...args: string[]): Promise<string> => (await promisify(execFile)(process.execPath, [require.resolve('pm2/bin/pm2'), ...args], {
    cwd,
    // Without tap's own variables, which would make the daemon a part of this test.
    env: { PATH: process.env.PATH, HOME: home, PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: 'true', ...env }
  })).stdout
  // Added after the folder's teardown, so it runs before it.
  t.teardown(async () => { await run('kill') })
  return {
    home,
    run,
    async start (app) {
      const file = join(home, 'ecosystem.config.json')
      writeFileSync(file, JSON.stringify({ apps: [app] }))
      await run('start', file)
    }
  }
}
