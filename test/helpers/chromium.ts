/** Chromium for the tests of pages: the one in the variable CHROMIUM, or an installed one. */
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { chromium, type Browser } from 'playwright-core'

const names = ['chromium', 'chromium-browser', 'google-chrome']

/** Finds the path of a Chromium. @returns `undefined` if there is none */
export function findChromium (): string | undefined {
  const { CHROMIUM: given, PATH = '' } = process.env
  if (given !== undefined && given !== '') return given
  const folders = new Set(['/usr/bin', ...PATH.split(':')])
  return names.flatMap(name => [...folders].map(folder => join(folder, name))).find(isExecutable)
}

/**
 * Options of `t.test` that skip a test if there is no Chromium, with a line about what to install.
 *
 * @throws if there is none and REQUIRE_SERVICES is 1
 */
export function unlessChromium (path: string | undefined): { skip: string | false } {
  if (path !== undefined) return { skip: false }
  const line = 'no chromium: set CHROMIUM to the path of one, or apt-get install chromium'
  if (process.env['REQUIRE_SERVICES'] === '1') throw new Error(line)
  return { skip: line }
}

/** Starts a Chromium that makes no requests of its own. The caller closes it. */
export async function startChromium (executablePath: string): Promise<Browser> {
  return await chromium.launch({
    executablePath,
    // Chromium's sandbox does not start as root, nor in most containers. The pages are our own.
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'
    ]
  })
}

function isExecutable (file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
