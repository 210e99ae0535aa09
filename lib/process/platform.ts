/** Detects the platform of this process from its environment, and its default times. */
import nodeCluster from 'node:cluster'
import { ShutdownEnvironmentError } from '../errors'
import { platformDefaults, type Delay, type PlatformName } from '../times'
import { isFastifyCli } from './fastify-cli'

/** A platform with its default times. */
export interface Platform {
  /** The name; the outermost platform if one runs inside another. */
  readonly name: PlatformName
  /** Length of lame-duck. */
  readonly delay: Delay
  /** Time between the request to stop and SIGKILL, in milliseconds; `null` if the platform does not send SIGKILL. */
  readonly gracePeriod: number | null
  /** Whether the environment contains the grace period; otherwise it is the platform's default. */
  readonly gracePeriodKnown: boolean
}

/** Variables that node:test, jest, vitest and tap set in the process of a test. */
const testVariables = ['NODE_TEST_CONTEXT', 'JEST_WORKER_ID', 'VITEST', 'TAP'] as const

/**
 * Detects the platform. A test runner comes first, because it also runs inside of the others. If several others match,
 * the outermost one counts, because it sends SIGKILL: PM2 in a pod has the pod's grace period.
 *
 * @param env @default process.env
 * @param cluster @default node:cluster
 * @throws FST_ERR_SHUTDOWN_ENVIRONMENT if a variable contains no valid time
 */
export function detectPlatform (
  env: NodeJS.ProcessEnv = process.env, cluster: { readonly isWorker: boolean } = nodeCluster
): Platform {
  if (isTestRunner(env)) return platform('test-runner', null)
  if (env.KUBERNETES_SERVICE_HOST) {
    return platform('kubernetes', readTime(env, 'TERMINATION_GRACE_PERIOD_SECONDS', 'seconds', 1_000))
  }
  // PM2 copies an app's settings into its environment (ForkMode.js, ProcessContainer.js). PM2 reads 0 as its default
  // (God/Methods.js).
  if (env.pm_id) {
    return platform('pm2', env.kill_timeout === '0' ? null : readTime(env, 'kill_timeout', 'milliseconds', 1))
  }
  if (cluster.isWorker) return platform('cluster', null)
  if (env.NOTIFY_SOCKET) return platform('systemd', null)
  return platform(isFastifyCli() ? 'fastify-cli' : 'plain', null)
}

/** Returns whether this process runs tests. @param env @default process.env */
export function isTestRunner (env: NodeJS.ProcessEnv = process.env): boolean {
  return testVariables.some(name => env[name])
}

/** Returns whether this is a worker of node:cluster. Its listening sockets belong to the primary. */
export function isClusterWorker (): boolean {
  return nodeCluster.isWorker
}

function platform (name: PlatformName, gracePeriod: number | null): Platform {
  const defaults = platformDefaults[name]
  return {
    name,
    delay: defaults.delay,
    gracePeriod: gracePeriod ?? defaults.gracePeriod,
    gracePeriodKnown: gracePeriod !== null
  }
}

/** Reads a time in milliseconds. An empty variable counts as missing, because templates without a value create it. */
function readTime (env: NodeJS.ProcessEnv, name: string, unit: string, factor: number): number | null {
  const text = env[name]
  if (text === undefined || text === '') return null
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (value > 0 && value * factor < 2 ** 31) return value * factor
  const shown = text.slice(0, 60).replace(/\s/g, ' ')
  throw new ShutdownEnvironmentError(
    `Expected the environment variable ${name} to be a whole number of ${unit} above 0, got '${shown}'`
  )
}
