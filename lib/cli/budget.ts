/**
 * Do the numbers of a deployment fit together? Pure: numbers in, findings out. All times in milliseconds.
 *
 * What the platform grants counts from the request to stop, so that a preStop hook, lame-duck (`delay`) and everything after it
 * (`timeouts.total`) have to fit in it one after the other; and whoever asks for readiness has to notice within lame-duck.
 */
import { defaultTotal, totalWithin } from '../options'
import { platformDefaults, type PlatformName } from '../process/platform'

/** What is known of one deployed process. */
export interface Deployment {
  /** What it is, for the reader: file, kind and name. */
  readonly source: string
  /** Where the plugin will believe to be. */
  readonly platform: PlatformName
  /** What is granted between the request to stop and SIGKILL; `null` for no end. */
  readonly grace: number | null
  /** How the setting that grants it is called there. */
  readonly graceName: string
  /** How long a preStop hook takes out of it, before the process hears of anything. @default 0 */
  readonly preStop?: number
  /** What the environment tells the process that is granted; `null` for nothing, and the plugin takes the platform's usual. @default null */
  readonly told?: number | null
  /** Who asks for readiness; `null` for nobody where somebody should, `undefined` where that is nobody's habit. */
  readonly readiness?: { readonly period: number, readonly threshold: number } | null
}

/** What the user sets in the plugin's options; the rest is the plugin's own default. */
export interface Times {
  readonly delay?: number
  readonly total?: number
}

export interface Finding {
  readonly rule: 'grace' | 'told' | 'refused' | 'delay' | 'readiness' | 'scaled' | 'unseen'
  /** An error does not fit; a warning fits, but perhaps not as meant. */
  readonly severity: 'error' | 'warning'
  readonly message: string
  /** By how much, in milliseconds; `null` where that is no amount. */
  readonly by: number | null
}

export interface Budget {
  readonly source: string
  readonly preStop: number
  readonly delay: number
  readonly total: number
  readonly grace: number | null
  /** What is left before SIGKILL; negative where it does not fit, `null` without an end. */
  readonly spare: number | null
  readonly findings: readonly Finding[]
}

/** @returns the plan as the plugin will make it, and what does not fit */
export function checkBudget (deployment: Deployment, times: Times = {}): Budget {
  const { platform, grace, graceName, preStop = 0, told = null, readiness } = deployment
  const usual = platformDefaults[platform]
  const believed = told ?? usual.gracePeriod
  const delay = times.delay ?? usual.delay
  const total = times.total ?? Math.max(0, totalWithin(delay, believed))
  const sum = preStop + delay + total
  const findings: Finding[] = []
  const add = (rule: Finding['rule'], severity: Finding['severity'], by: number | null, message: string): void => { findings.push({ rule, severity, message, by }) }

  if (grace !== null && sum > grace) {
    add('grace', 'error', sum - grace, `${parts(preStop, delay, total)}, but ${graceName} grants ${text(grace)}: ${text(sum - grace)} too much, SIGKILL comes first`)
  }
  if (times.total === undefined && total < 1) {
    add('delay', 'error', -totalWithin(delay, believed), `'delay' (${text(delay)}) leaves no time for the shutdown itself in ${text(believed ?? 0)}: the plugin refuses to start`)
  } else if (told !== null && delay + total > told) {
    add('refused', 'error', delay + total - told, `delay ${text(delay)} + timeouts.total ${text(total)} is ${text(delay + total - told)} more than the ${text(told)} that the environment tells: the plugin refuses to start`)
  } else if (times.total === undefined && total < defaultTotal) {
    const why = told === null ? `the ${text(believed ?? 0)} that are usual here` : `the ${text(told)} that the environment tells`
    add('scaled', 'warning', defaultTotal - total, `the plugin shortens timeouts.total from ${text(defaultTotal)} to ${text(total)} to fit in ${why}: is the slowest request done by then?`)
  }
  if (grace !== null && told !== null && preStop + told > grace) {
    add('told', 'warning', preStop + told - grace, `the environment tells ${text(told)}, but after preStop (${text(preStop)}) only ${text(Math.max(0, grace - preStop))} of ${graceName} are left: tell ${text(preStop + told - grace)} less`)
  }
  if (readiness === null) {
    add('unseen', 'warning', null, 'there is no readiness probe: a shutdown that the platform did not ask for goes unnoticed')
  } else if (readiness !== undefined && !(delay === 0 && preStop > 0)) {
    // Without a lame-duck, but after a preStop, the platform has taken the process out before it hears of anything.
    const noticed = readiness.period * readiness.threshold
    if (noticed >= delay) {
      add('readiness', 'error', noticed - delay, `readiness is noticed after ${text(readiness.period)} x ${readiness.threshold} = ${text(noticed)}, which is not less than the delay of ${text(delay)}: lame-duck is over before anyone sees it`)
    }
  }
  return { source: deployment.source, preStop, delay, total, grace, spare: grace === null ? null : grace - sum, findings }
}

/** `preStop 5 s + delay 5 s + timeouts.total 60 s = 70 s` */
export function parts (preStop: number, delay: number, total: number): string {
  const steps = [...preStop > 0 ? [`preStop ${text(preStop)}`] : [], `delay ${text(delay)}`, `timeouts.total ${text(total)}`]
  return `${steps.join(' + ')} = ${text(preStop + delay + total)}`
}

/** A time as one reads it: `600 ms`, `1.6 s`, `75 s`. */
export function text (ms: number): string {
  return Math.abs(ms) >= 1_000 || ms === 0 ? `${Math.round(ms) / 1_000} s` : `${Math.round(ms)} ms`
}
