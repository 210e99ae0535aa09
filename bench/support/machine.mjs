/** Describes the machine and the versions, so that a reading can be compared with another one. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'
import { fileURLToPath } from 'node:url'

export function describeMachine () {
  const require = path => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
  // All installed packages, also those that were not measured.
  const peers = Object.keys(require('../package.json').dependencies).map(name => `${name} ${require(`../node_modules/${name}/package.json`).version}`)
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: `${availableParallelism()} x ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${type()} ${release()} ${arch()}`,
    load: loadavg()[0].toFixed(1),
    node: process.version,
    v8: process.versions.v8,
    fastify: require('../../node_modules/fastify/package.json').version,
    peers: peers.join(', '),
    revision: revision()
  }
}

function revision () {
  const options = { cwd: fileURLToPath(new URL('../..', import.meta.url)), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }
  try {
    const dirty = execFileSync('git', ['status', '--porcelain', '--', 'lib', 'types', 'bench'], options).trim() !== ''
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], options).trim() + (dirty ? ' with changes' : '')
  } catch {
    return 'unknown' // unpacked from an archive
  }
}
