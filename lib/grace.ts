/** How long a shutdown may take: one rule, for the plugin that keeps it and for the command that checks a manifest. */

/** `timeouts.total` where nobody kills, in milliseconds. */
export const defaultTotal = 60_000

/**
 * What a grace period leaves after `delay`, and after a twentieth of it (at most a second) for the process to end; never more
 * than the default. Below 1 it leaves nothing. All in milliseconds.
 */
export function totalWithin (delay: number, gracePeriod: number | null): number {
  if (gracePeriod === null) return defaultTotal
  return Math.min(defaultTotal, gracePeriod - delay - Math.min(1_000, Math.ceil(gracePeriod / 20)))
}
