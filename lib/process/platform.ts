/**
 * Where this process runs, read from its environment, and what is usual there. Pure: the environment is given.
 */
import { ShutdownEnvironmentError } from '../errors'

export type PlatformName = 'kubernetes' | 'pm2' | 'cluster' | 'systemd' | 'plain'

export interface Platform {
  readonly name: PlatformName
  /** Length of lame-duck, in milliseconds. */
  readonly delay: number
  /** What is granted between the request to stop and SIGKILL, in milliseconds; `null` where nobody kills. */
  readonly gracePeriod: number | null
  /** Whether the environment told the grace period; otherwise it is only what is usual there. */
  readonly gracePeriodKnown: boolean
}

/**
 * What is usual on each platform, in milliseconds: Kubernetes' terminationGracePeriodSeconds is 30, PM2 7's KILL_TIMEOUT is
 * 1600 (its constants.js), systemd's DefaultTimeoutStopSec is 90 s. A cluster worker and a terminal have nobody who kills.
 */
export const platformDefaults: Readonly<Record<PlatformName, Omit<Platform, 'name' | 'gracePeriodKnown'>>> = {
  kubernetes: { delay: 5_000, gracePeriod: 30_000 },
  pm2: { delay: 1_000, gracePeriod: 1_600 },
  cluster: { delay: 1_000, gracePeriod: null },
  systemd: { delay: 0, gracePeriod: 90_000 },
  plain: { delay: 0, gracePeriod: null }
}

/**
 * The outermost one wins, since it is the one that kills: a PM2 or a cluster inside of a pod lives by the pod's grace period.
 *
 * @throws FST_ERR_SHUTDOWN_ENVIRONMENT where a variable is set to something that is no time
 */
export function detectPlatform (env: NodeJS.ProcessEnv, cluster: { readonly isWorker: boolean }): Platform {
  if (env.KUBERNETES_SERVICE_HOST) return platform('kubernetes', told(env, 'TERMINATION_GRACE_PERIOD_SECONDS', 'seconds', 1_000))
  // PM2 copies an app's settings into its environment (ForkMode.js, ProcessContainer.js); 0 means its default to PM2 (God/Methods.js).
  if (env.pm_id) return platform('pm2', env.kill_timeout === '0' ? null : told(env, 'kill_timeout', 'milliseconds', 1))
  if (cluster.isWorker) return platform('cluster', null)
  if (env.NOTIFY_SOCKET) return platform('systemd', null)
  return platform('plain', null)
}

/** Whether other processes may listen on the same sockets: workers of a cluster, and whoever systemd hands a socket to (sd_listen_fds(3)). */
export function sharesListeners (env: NodeJS.ProcessEnv, cluster: { readonly isWorker: boolean }): boolean {
  return cluster.isWorker || Boolean(env.LISTEN_FDS)
}

function platform (name: PlatformName, gracePeriod: number | null): Platform {
  const usual = platformDefaults[name]
  return { name, delay: usual.delay, gracePeriod: gracePeriod ?? usual.gracePeriod, gracePeriodKnown: gracePeriod !== null }
}

/** An empty variable counts as none: that is what a template leaves behind whose value is missing. */
function told (env: NodeJS.ProcessEnv, name: string, unit: string, factor: number): number | null {
  const text = env[name]
  if (text === undefined || text === '') return null
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (value > 0 && value * factor < 2 ** 31) return value * factor
  throw new ShutdownEnvironmentError(`Expected the environment's ${name} to be a whole number of ${unit} above 0, got '${text.slice(0, 60).replace(/\s/g, ' ')}'`)
}
