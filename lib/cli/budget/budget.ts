/**
 * Checks whether the times of a deployment fit together. It has no input except its arguments. All times are in
 * milliseconds.
 *
 * A preStop hook, lame-duck (`delay`) and the rest of the shutdown (`timeouts.total`) run one after the other, within
 * the grace period. The readiness probe must fail before lame-duck ends.
 */
import { defaultTotal, delayWithin, fixedDelay, platformDefaults, totalWithin, type PlatformName } from '../../times'

/** The times of one deployed process, as its file states them. */
export interface Deployment {
  /** The file, the kind and the name of the process. */
  readonly source: string
  /** The platform that the plugin will detect. */
  readonly platform: PlatformName
  /** Time between the request to stop and SIGKILL; `null` for no limit. */
  readonly grace: number | null
  /** The setting of the platform that contains `grace`. */
  readonly graceName: string
  /** Duration of a preStop hook, which runs before the process receives a signal. @default 0 */
  readonly preStop?: number
  /**
   * The grace period in the environment of the process. `null` if it is missing; the plugin then uses the platform's
   * default. @default null
   */
  readonly environmentGrace?: number | null
  /** The readiness probe; `null` if it is missing, `undefined` if the platform has none. */
  readonly readiness?: { readonly period: number, readonly threshold: number } | null
}

/** The plugin's options that the user sets; the others have the plugin's defaults. */
export interface Times {
  /** @default by platform */
  readonly delay?: number
  /** `timeouts.total`. @default 60_000, shortened to fit in the grace period */
  readonly total?: number
}

/** A time that does not fit. */
export interface Finding {
  /** What does not fit. */
  readonly rule: 'grace' | 'environment' | 'registration' | 'delay' | 'readiness' | 'scaled' | 'no-readiness'
  /** `error`: the times do not fit. `warning`: they fit, but may be a mistake. */
  readonly severity: 'error' | 'warning'
  /** The finding in one sentence. */
  readonly message: string
  /** The difference in milliseconds; `null` if the finding is not about a time. */
  readonly by: number | null
}

/** The times of a deployment, with the plugin's defaults, and the findings. */
export interface Budget {
  /** The file, the kind and the name of the process. */
  readonly source: string
  /** Duration of the preStop hook. */
  readonly preStop: number
  /** Longest length of lame-duck. */
  readonly delay: number
  /** `timeouts.total`. */
  readonly total: number
  /** Time between the request to stop and SIGKILL; `null` for no limit. */
  readonly grace: number | null
  /** Time left before SIGKILL; negative if the times do not fit, `null` without a limit. */
  readonly spare: number | null
  /** Empty if everything fits. */
  readonly findings: readonly Finding[]
}

/** Checks a deployment with the times that the plugin will use. */
export function checkBudget (deployment: Deployment, times: Times = {}): Budget {
  const { platform, grace, graceName, preStop = 0, environmentGrace = null, readiness } = deployment
  const defaults = platformDefaults[platform]
  const assumedGrace = environmentGrace ?? defaults.gracePeriod
  // A range may take its longest time, and has the least total then.
  const { min, max: delay } = times.delay === undefined
    ? delayWithin(defaults.delay, assumedGrace, times.total ?? 0)
    : fixedDelay(times.delay)
  const total = times.total ?? Math.max(0, totalWithin(delay, assumedGrace))
  const sum = preStop + delay + total
  const findings: Finding[] = []
  const add = (
    rule: Finding['rule'], severity: Finding['severity'], by: number | null, message: string
  ): void => { findings.push({ rule, severity, message, by }) }

  if (grace !== null && sum > grace) {
    add(
      'grace',
      'error',
      sum - grace,
      `${formatSum(preStop, delay, total)}, but ${graceName} is ${formatTime(grace)}: ` +
      `SIGKILL comes ${formatTime(sum - grace)} too early`
    )
  }
  if (times.total === undefined && total < 1) {
    add(
      'delay',
      'error',
      -totalWithin(delay, assumedGrace),
      `'delay' (${formatTime(delay)}) leaves no time for the rest of the shutdown ` +
      `in ${formatTime(assumedGrace ?? 0)}: the plugin will not start`
    )
  } else if (environmentGrace !== null && delay + total > environmentGrace) {
    add(
      'registration',
      'error',
      delay + total - environmentGrace,
      `delay ${formatTime(delay)} + timeouts.total ${formatTime(total)} exceeds the grace period in the environment ` +
      `(${formatTime(environmentGrace)}) by ${formatTime(delay + total - environmentGrace)}: the plugin will not start`
    )
  } else if (times.total === undefined && totalWithin(min, assumedGrace) < defaultTotal) {
    const longest = totalWithin(min, assumedGrace)
    const origin = environmentGrace === null
      ? 'the default grace period of this platform'
      : 'the grace period in the environment'
    add(
      'scaled',
      'warning',
      defaultTotal - longest,
      `the plugin shortens timeouts.total from ${formatTime(defaultTotal)} to ${formatTime(longest)}, ` +
      `to fit in ${origin} (${formatTime(assumedGrace ?? 0)}): check that the slowest request is shorter`
    )
  }
  if (grace !== null && environmentGrace !== null && preStop + environmentGrace > grace) {
    add(
      'environment',
      'warning',
      preStop + environmentGrace - grace,
      `the grace period in the environment is ${formatTime(environmentGrace)}, but preStop (${formatTime(preStop)}) ` +
      `leaves ${formatTime(Math.max(0, grace - preStop))} of ${graceName}: ` +
      `reduce it by ${formatTime(preStop + environmentGrace - grace)}`
    )
  }
  if (readiness === null) {
    add(
      'no-readiness',
      'warning',
      null,
      'there is no readiness probe: the platform does not notice a shutdown that it did not request'
    )
  } else if (readiness !== undefined && !(delay === 0 && preStop > 0)) {
    // Without a lame-duck, a preStop hook gives the platform time to stop the traffic before the process receives a
    // signal.
    const noticed = readiness.period * readiness.threshold
    if (noticed >= delay) {
      add(
        'readiness',
        'error',
        noticed - delay,
        `readiness fails after ${formatTime(readiness.period)} x ${readiness.threshold} = ${formatTime(noticed)}, ` +
        `which is not shorter than the delay of ${formatTime(delay)}: lame-duck ends before the platform notices it`
      )
    }
  }
  return {
    source: deployment.source, preStop, delay, total, grace, spare: grace === null ? null : grace - sum, findings
  }
}

/** Formats the times and their sum: `preStop 5 s + delay 5 s + timeouts.total 60 s = 70 s`. */
export function formatSum (preStop: number, delay: number, total: number): string {
  const steps = [
    ...preStop > 0 ? [`preStop ${formatTime(preStop)}`] : [],
    `delay ${formatTime(delay)}`,
    `timeouts.total ${formatTime(total)}`
  ]
  return `${steps.join(' + ')} = ${formatTime(preStop + delay + total)}`
}

/** Formats a time in milliseconds: `600 ms`, `1.6 s`, `75 s`. */
export function formatTime (ms: number): string {
  return Math.abs(ms) >= 1_000 || ms === 0 ? `${Math.round(ms) / 1_000} s` : `${Math.round(ms)} ms`
}
