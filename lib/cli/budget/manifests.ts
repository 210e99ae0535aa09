/**
 * Finds the times of a process in Kubernetes manifests, PM2 ecosystems, systemd units and compose files. It gets parsed
 * documents: `files.ts` reads and parses the files.
 */
import { received } from '../../errors'
import type { Deployment } from './budget'
import { parseGoDuration, parseSystemdTimeSpan } from './durations'

/** The contents of a file. */
export interface Reading {
  /** The processes of the file. */
  readonly deployments: readonly Deployment[]
  /** The parts that are not checked, each with its reason. */
  readonly skipped: readonly string[]
}

/** An error: a file is not valid, or contains nothing to check. */
export class ManifestError extends Error {}

type Json = Record<string, unknown>

/**
 * Reads a Kubernetes manifest, a PM2 ecosystem or a compose file.
 *
 * @param documents the parsed documents of the file
 * @throws ManifestError, which names the file and the field
 */
export function readManifest (file: string, documents: readonly unknown[]): Reading {
  const readings = documents.flatMap(document => readDocument(file, document))
  return {
    deployments: readings.flatMap(reading => reading.deployments),
    skipped: readings.flatMap(reading => reading.skipped)
  }
}

function readDocument (file: string, document: unknown): Reading[] {
  if (document === null || document === undefined) return []
  if (Array.isArray(document)) return [ecosystem(file, document)]
  if (!isObject(document)) {
    throw new ManifestError(
      `${file}: neither a Kubernetes manifest, a PM2 ecosystem, a systemd unit nor a compose file`
    )
  }
  if (document.kind === 'List') return list(document.items).flatMap(item => readDocument(file, item))
  if (typeof document.kind === 'string' && 'apiVersion' in document) return [kubernetes(file, document)]
  if ('apps' in document) return [ecosystem(file, Array.isArray(document.apps) ? document.apps : [document.apps])]
  if ('script' in document) return [ecosystem(file, [document])]
  if (isObject(document.services)) return [compose(file, document.services)]
  throw new ManifestError(`${file}: neither a Kubernetes manifest, a PM2 ecosystem, a systemd unit nor a compose file`)
}

/** Kinds that run servers. A Job has no readiness probe and no requests. */
const workloads = ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Pod']

function kubernetes (file: string, manifest: Json): Reading {
  const kind = String(manifest.kind)
  if (kind === 'Kustomization') {
    return {
      deployments: [],
      skipped: [`${file} is a Kustomization: check its output, kubectl kustomize DIR | fastify-shutdown budget -`]
    }
  }
  if (!workloads.includes(kind)) return { deployments: [], skipped: [] }
  const name = String(object(manifest.metadata).name ?? 'unnamed')
  const pod = kind === 'Pod' ? object(manifest.spec) : object(object(object(manifest.spec).template).spec)
  const containers = list(pod.containers).map(object)
  // A strategic-merge patch may contain only a part of a manifest.
  if (containers.length === 0) {
    return {
      deployments: [],
      skipped: [`${file}: ${kind} ${name} has no containers (if it is a patch, check the output of kustomize)`]
    }
  }
  const grace = amount(file, 'terminationGracePeriodSeconds', pod.terminationGracePeriodSeconds, 30)
  const skipped: string[] = []
  const deployments = containers.map((container): Deployment => {
    const source = `${file}: ${kind} ${name}, container ${String(container.name)}`
    const variable = list(container.env).map(object).find(({ name }) => name === 'TERMINATION_GRACE_PERIOD_SECONDS')
    const probe = container.readinessProbe === undefined ? null : object(container.readinessProbe)
    const preStop = preStopSeconds(file, object(object(container.lifecycle).preStop))
    if (preStop === null) skipped.push(`${source}: the duration of its preStop hook is unknown, and counts as 0`)
    if (variable !== undefined && variable.value === undefined) {
      skipped.push(
        `${source}: the value of TERMINATION_GRACE_PERIOD_SECONDS is in another object, and counts as not set`
      )
    }
    return {
      source,
      platform: 'kubernetes',
      grace: grace * 1_000,
      graceName: 'terminationGracePeriodSeconds',
      preStop: (preStop ?? 0) * 1_000,
      environmentGrace: variable?.value === undefined
        ? null
        : amount(file, 'TERMINATION_GRACE_PERIOD_SECONDS', variable.value, 0) * 1_000,
      // The defaults of core/v1 Probe.
      readiness: probe && {
        period: amount(file, 'readinessProbe.periodSeconds', probe.periodSeconds, 10) * 1_000,
        threshold: amount(file, 'readinessProbe.failureThreshold', probe.failureThreshold, 3)
      }
    }
  })
  return { deployments, skipped }
}

/** Returns the duration of the hook in seconds; `null` if its command is not `sleep`. */
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
      // PM2 reads 0 as its default (God/Methods.js). It copies other values into the environment of the process.
      const grace = amount(file, 'kill_timeout', timeout, 0) || null
      return {
        source: `${file}: PM2 app ${String(name ?? script)}`,
        platform: 'pm2',
        grace: grace ?? 1_600,
        graceName: 'kill_timeout',
        environmentGrace: grace
      }
    })
  }
}

function compose (file: string, services: Json): Reading {
  const entries = Object.entries(services).map(([name, service]) => [name, object(service)] as const)
  // A service without `build` is usually a database or a cache, which does not use the plugin.
  const built = entries.filter(([, service]) => service.build !== undefined || service.stop_grace_period !== undefined)
  const chosen = built.length > 0 ? built : entries
  return {
    skipped: entries.filter(entry => !chosen.includes(entry)).map(
      ([name]) => `${file}: service ${name} has neither build nor stop_grace_period`
    ),
    deployments: chosen.map(([name, service]): Deployment => ({
      source: `${file}: service ${name}`,
      platform: 'plain',
      grace: service.stop_grace_period === undefined ? 10_000 : goDuration(file, service.stop_grace_period),
      graceName: 'stop_grace_period'
    }))
  }
}

/**
 * Reads the [Service] section of a systemd unit.
 *
 * @throws ManifestError, which names the file and the setting
 */
export function readUnit (file: string, text: string): Reading {
  let section = ''
  let timeout = '90s'
  let type = 'simple'
  let started = false
  for (const line of text.replace(/\\\r?\n/g, ' ').split(/\r?\n/).map(line => line.trim())) {
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    section = /^\[(.+)\]$/.exec(line)?.[1] ?? section
    started ||= section === 'Service'
    if (section !== 'Service') continue
    const [name, ...rest] = line.split('=').map(part => part.trim())
    const value = rest.join('=')
    if (name === 'Type') type = value
    // The last value is used, and TimeoutSec= also sets TimeoutStopSec= (systemd.service(5)).
    if (name === 'TimeoutStopSec' || name === 'TimeoutSec') timeout = value || '90s'
  }
  if (!started) throw new ManifestError(`${file}: the unit has no [Service] section`)
  // `infinity` and, for compatibility, `0` are no limit (systemd.service(5)).
  const grace = timeout === 'infinity' || timeout === '0'
    ? null
    : parseSystemdTimeSpan(timeout) ?? invalid(file, 'TimeoutStopSec', 'a time span such as 90 or 1min 30s', timeout)
  // Without Type=notify there is no NOTIFY_SOCKET, so that the plugin does not detect systemd.
  return {
    skipped: [],
    deployments: [
      {
        source: `${file}: unit`,
        platform: type.startsWith('notify') ? 'systemd' : 'plain',
        grace,
        graceName: 'TimeoutStopSec'
      }
    ]
  }
}

function goDuration (file: string, given: unknown): number {
  return parseGoDuration(String(given)) ?? invalid(file, 'stop_grace_period', 'a duration such as 1m5s', given)
}

/** Returns a number >= 0, which may be given as text. */
function amount (file: string, name: string, given: unknown, fallback: number): number {
  if (given === undefined || given === null) return fallback
  const value = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given
  return typeof value === 'number' && value >= 0 && Number.isFinite(value)
    ? value
    : invalid(file, name, 'a number >= 0', given)
}

function invalid (file: string, name: string, expected: string, given: unknown): never {
  throw new ManifestError(`${file}: expected ${name} to be ${expected}, got ${received(given)}`)
}

function isObject (value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Returns the value if it is an object, otherwise an empty object. */
function object (value: unknown): Json {
  return isObject(value) ? value : {}
}

function list (value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}
