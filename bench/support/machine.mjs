/** What it was measured on: without it no reading can be compared with another. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'

export function describeMachine () {
  const require = path => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
  const peers = require('../package.json').dependencies
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: `${availableParallelism()} x ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${type()} ${release()} ${arch()}`,
    load: loadavg()[0].toFixed(1),
    node: process.version,
    v8: process.versions.v8,
    fastify: require('../../node_modules/fastify/package.json').version,
    peers: Object.entries(peers).map(([name, version]) => `${name} ${version}`).join(', '),
    revision: revision()
  }
}

function revision () {
  try {
    const dirty = execFileSync('git', ['status', '--porcelain', '--', 'lib', 'types'], { encoding: 'utf8' }).trim() !== ''
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim() + (dirty ? ' with changes' : '')
  } catch {
    return 'unknown' // unpacked from an archive
  }
}
