/**
 * What a deployment's file says of the time a process gets: Kubernetes manifests, PM2 ecosystems, systemd units and compose
 * files, as plain data. Pure: the file is read and parsed elsewhere.
 */
import type { Deployment } from './budget'

/** What a file holds. `skipped` says what was passed over, and why. */
export interface Reading {
  readonly deployments: readonly Deployment[]
  readonly skipped: readonly string[]
}

/** The file says something that cannot be understood. */
export class ManifestError extends Error {}

type Json = Record<string, unknown>

/** @param documents what the file holds: one for each document of a YAML file */
export function readManifest (file: string, documents: readonly unknown[]): Reading {
  const readings = documents.flatMap(document => readDocument(file, document))
  return { deployments: readings.flatMap(reading => reading.deployments), skipped: readings.flatMap(reading => reading.skipped) }
}

function readDocument (file: string, document: unknown): Reading[] {
  if (document === null || document === undefined) return []
  if (Array.isArray(document)) return [ecosystem(file, document)]
  if (!isObject(document)) throw new ManifestError(`${file}: neither a Kubernetes manifest, a PM2 ecosystem, a systemd unit nor a compose file`)
  if (document.kind === 'List') return list(document.items).flatMap(item => readDocument(file, item))
  if (typeof document.kind === 'string' && 'apiVersion' in document) return [kubernetes(file, document)]
  if ('apps' in document) return [ecosystem(file, Array.isArray(document.apps) ? document.apps : [document.apps])]
  if ('script' in document) return [ecosystem(file, [document])]
  if (isObject(document.services)) return [compose(file, document.services)]
  throw new ManifestError(`${file}: neither a Kubernetes manifest, a PM2 ecosystem, a systemd unit nor a compose file`)
}

/** Kinds whose pods serve; jobs are not asked for readiness, and drain nothing. */
const workloads = ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Pod']

function kubernetes (file: string, manifest: Json): Reading {
  const kind = String(manifest.kind)
  if (kind === 'Kustomization') return { deployments: [], skipped: [`${file} is a Kustomization: check what it renders, kubectl kustomize DIR | fastify-shutdown budget -`] }
  if (!workloads.includes(kind)) return { deployments: [], skipped: [] }
  const name = String(object(manifest.metadata).name ?? 'unnamed')
  const pod = kind === 'Pod' ? object(manifest.spec) : object(object(object(manifest.spec).template).spec)
  const containers = list(pod.containers).map(object)
  // A strategic-merge patch or a kustomization is no whole manifest.
  if (containers.length === 0) return { deployments: [], skipped: [`${file}: ${kind} ${name} has no containers (a patch? check what kustomize renders)`] }
  const grace = amount(file, 'terminationGracePeriodSeconds', pod.terminationGracePeriodSeconds, 30)
  const skipped: string[] = []
  const deployments = containers.map((container): Deployment => {
    const source = `${file}: ${kind} ${name}, container ${String(container.name)}`
    const told = list(container.env).map(object).find(variable => variable.name === 'TERMINATION_GRACE_PERIOD_SECONDS')
    const probe = container.readinessProbe === undefined ? null : object(container.readinessProbe)
    const preStop = preStopSeconds(file, object(object(container.lifecycle).preStop))
    if (preStop === null) skipped.push(`${source}: how long its preStop takes is not known, counted as 0`)
    if (told !== undefined && told.value === undefined) skipped.push(`${source}: what TERMINATION_GRACE_PERIOD_SECONDS says is written elsewhere, counted as not told`)
    return {
      source,
      platform: 'kubernetes',
      grace: grace * 1_000,
      graceName: 'terminationGracePeriodSeconds',
      preStop: (preStop ?? 0) * 1_000,
      told: told?.value === undefined ? null : amount(file, 'TERMINATION_GRACE_PERIOD_SECONDS', told.value, 0) * 1_000,
      // The defaults are the API's (core/v1 Probe).
      readiness: probe && {
        period: amount(file, 'readinessProbe.periodSeconds', probe.periodSeconds, 10) * 1_000,
        threshold: amount(file, 'readinessProbe.failureThreshold', probe.failureThreshold, 3)
      }
    }
  })
  return { deployments, skipped }
}

/** @returns `null` where it is a hook whose time nobody can read from the manifest */
function preStopSeconds (file: string, hook: Json): number | null {
  if (Object.keys(hook).length === 0) return 0
  if (isObject(hook.sleep)) return amount(file, 'preStop.sleep.seconds', hook.sleep.seconds, 0)
  const sleep = /^(?:\S*sh -c )?(?:\S*\/)?sleep (\d+(?:\.\d+)?)s?$/.exec(list(object(hook.exec).command).join(' '))
  return sleep?.[1] === undefined ? null : Number(sleep[1])
}

function ecosystem (file: string, apps: readonly unknown[]): Reading {
  return {
    skipped: [],
    deployments: apps.map((app): Deployment => {
      const { name, script, kill_timeout: timeout } = object(app)
      // 0 is its default to PM2 (God/Methods.js), and what is set is told to the process.
      const told = amount(file, 'kill_timeout', timeout, 0) || null
      return { source: `${file}: PM2 app ${String(name ?? script)}`, platform: 'pm2', grace: told ?? 1_600, graceName: 'kill_timeout', told }
    })
  }
}

function compose (file: string, services: Json): Reading {
  const entries = Object.entries(services).map(([name, service]) => [name, object(service)] as const)
  // A database beside the service is not ours: it has no `build`, and its time is nobody's concern here.
  const ours = entries.filter(([, service]) => service.build !== undefined || service.stop_grace_period !== undefined)
  const chosen = ours.length > 0 ? ours : entries
  return {
    skipped: entries.filter(entry => !chosen.includes(entry)).map(([name]) => `${file}: service ${name} has neither build nor stop_grace_period`),
    deployments: chosen.map(([name, service]): Deployment => ({
      source: `${file}: service ${name}`,
      platform: 'plain',
      grace: service.stop_grace_period === undefined ? 10_000 : goDuration(file, String(service.stop_grace_period)),
      graceName: 'stop_grace_period'
    }))
  }
}

/** A systemd unit's text, of which only the service section matters here. */
export function readUnit (file: string, text: string): Reading {
  let section = ''
  let timeout = '90s'
  let type = 'simple'
  let started = false
  for (const line of text.replace(/\\\r?\n/g, ' ').split(/\r?\n/).map(line => line.trim())) {
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    section = /^\[(.+)\]$/.exec(line)?.[1] ?? section
    started ||= section === 'Service'
    const [name, value = ''] = line.split(/\s*=\s*(.*)/, 2)
    if (section !== 'Service') continue
    if (name === 'Type') type = value
    // The later one wins, and TimeoutSec= sets both (systemd.service(5)).
    if (name === 'TimeoutStopSec' || name === 'TimeoutSec') timeout = value || '90s'
  }
  if (!started) throw new ManifestError(`${file}: a unit without a [Service] section`)
  const grace = timeSpan(file, timeout)
  // Without Type=notify there is no NOTIFY_SOCKET, by which the plugin knows systemd.
  return { skipped: [], deployments: [{ source: `${file}: unit`, platform: type.startsWith('notify') ? 'systemd' : 'plain', grace, graceName: 'TimeoutStopSec' }] }
}

/** systemd.time(7): `90`, `1min 30s`, `2.5h`; `infinity` and, from old times, `0` are no end. @returns milliseconds */
function timeSpan (file: string, given: string): number | null {
  if (given === 'infinity' || given === '0') return null
  return sum(given, spans) ?? refuse(file, 'TimeoutStopSec', 'a time span such as 90 or 1min 30s', given)
}

const spans: ReadonlyMap<string, number> = new Map(([
  [0.001, ['us', 'usec']], [1, ['ms', 'msec']], [1e3, ['', 's', 'sec', 'second', 'seconds']],
  [6e4, ['m', 'min', 'minute', 'minutes']], [36e5, ['h', 'hr', 'hour', 'hours']], [864e5, ['d', 'day', 'days']]
] as const).flatMap(([ms, names]) => names.map(name => [name, ms] as const)))

/** As Go writes it, which compose takes over: `1m30s`, `500ms`. @returns milliseconds */
function goDuration (file: string, given: string): number {
  return sum(given, new Map([['us', 0.001], ['ms', 1], ['s', 1e3], ['m', 6e4], ['h', 36e5]])) ?? refuse(file, 'stop_grace_period', 'a duration such as 1m5s', given)
}

/** @returns `null` where the text is no sum of times in these units */
function sum (given: string, units: ReadonlyMap<string, number>): number | null {
  if (!/^(?:\s*\d+(?:\.\d+)?\s*[a-z]*)+\s*$/.test(given)) return null
  const times = [...given.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/g)].map(([, count, unit]) => Number(count) * (units.get(unit ?? '') ?? NaN))
  const total = times.reduce((one, other) => one + other, 0)
  return Number.isNaN(total) ? null : total
}

function amount (file: string, name: string, given: unknown, otherwise: number): number {
  if (given === undefined || given === null) return otherwise
  const value = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given
  return typeof value === 'number' && value >= 0 && Number.isFinite(value) ? value : refuse(file, name, 'a number >= 0', given)
}

function refuse (file: string, name: string, expected: string, given: unknown): never {
  throw new ManifestError(`${file}: expected ${name} to be ${expected}, got '${String(given)}' (${typeof given})`)
}

function isObject (value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What is not there says nothing: an empty object. */
function object (value: unknown): Json {
  return isObject(value) ? value : {}
}

function list (value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}
