/** The contenders: one service file each, and its settings. */

/** Lame-duck of the contenders that have one, in milliseconds. HAProxy's two probes notice it within this time. */
const delay = '1000'

/** @typedef {{ key: string, name: string, service: string, package: string, env?: Record<string, string>, expectsNone?: (topology: string) => boolean, extra?: boolean }} Contender */

/** The rule of kube-proxy's nftables may change after a shorter lame-duck has ended. */
const exceptKubeProxy = topology => topology !== 'kube-proxy'

/**
 * `expectsNone`: whether a loss makes the exit code 1. `extra`: runs only if named, or with `--all`.
 *
 * @type {readonly Contender[]}
 */
export const contenders = [
  { key: 'defaults', name: 'fastify-shutdown, defaults', service: 'fastify-shutdown', package: 'fastify-shutdown', expectsNone: exceptKubeProxy },
  { key: 'ours-1s', name: 'fastify-shutdown, lame-duck 1 s', service: 'fastify-shutdown', package: 'fastify-shutdown', env: { DELAY_MS: delay }, expectsNone: exceptKubeProxy },
  { key: 'ours-5s', name: 'fastify-shutdown, lame-duck 5 s', service: 'fastify-shutdown', package: 'fastify-shutdown', env: { DELAY_MS: '5000' }, expectsNone: exceptKubeProxy },
  { key: 'ours-10s', name: 'fastify-shutdown, lame-duck 10 s', service: 'fastify-shutdown', package: 'fastify-shutdown', env: { DELAY_MS: '10000' }, expectsNone: () => true },
  { key: 'ours-10-15s', name: 'fastify-shutdown, lame-duck 10 to 15 s', service: 'fastify-shutdown', package: 'fastify-shutdown', env: { DELAY_MS: '{"min":10000,"max":15000,"quiet":1000}' }, expectsNone: () => true, extra: true },
  { key: 'close-with-grace', name: 'close-with-grace', service: 'close-with-grace', package: 'close-with-grace' },
  { key: 'fastify-graceful-shutdown', name: 'fastify-graceful-shutdown', service: 'fastify-graceful-shutdown', package: 'fastify-graceful-shutdown' },
  { key: 'terminus', name: '@godaddy/terminus', service: 'terminus', package: '@godaddy/terminus' },
  { key: 'http-graceful-shutdown', name: 'http-graceful-shutdown', service: 'http-graceful-shutdown', package: 'http-graceful-shutdown' },
  { key: 'close-with-grace-delay', name: 'close-with-grace, own delay 1 s', service: 'close-with-grace', package: 'close-with-grace', env: { DELAY_MS: delay }, extra: true },
  { key: 'fastify-graceful-shutdown-delay', name: 'fastify-graceful-shutdown, own delay 1 s', service: 'fastify-graceful-shutdown', package: 'fastify-graceful-shutdown', env: { DELAY_MS: delay }, extra: true },
  { key: 'terminus-delay', name: '@godaddy/terminus, own delay 1 s', service: 'terminus', package: '@godaddy/terminus', env: { DELAY_MS: delay }, extra: true },
  { key: 'http-graceful-shutdown-delay', name: 'http-graceful-shutdown, own delay 1 s', service: 'http-graceful-shutdown', package: 'http-graceful-shutdown', env: { DELAY_MS: delay }, extra: true }
]
