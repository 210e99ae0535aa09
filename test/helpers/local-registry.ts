/**
 * A registry on the loopback address that has only what is in the repository's node_modules, so that a test can run a
 * real `npm install` without the network. npm resolves what each package declares, and nothing else.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, dirname, join } from 'node:path'
import type { Test } from 'tap'

const root = join(__dirname, '../..')

interface Manifest {
  readonly name: string
  readonly version: string
}

/** All packages of node_modules: name -> version -> folder. npm writes this list of what it has installed. */
function installedPackages (): Map<string, Map<string, string>> {
  const packages = new Map<string, Map<string, string>>()
  const list = JSON.parse(readFileSync(join(root, 'node_modules/.package-lock.json'), 'utf8')) as { packages: object }
  for (const path of Object.keys(list.packages)) {
    const folder = join(root, path)
    // Optional packages for another platform are in the list, but not installed.
    if (!existsSync(join(folder, 'package.json'))) continue
    const { name, version } = manifestOf(folder)
    const versions = packages.get(name) ?? new Map<string, string>()
    versions.set(version, folder)
    packages.set(name, versions)
  }
  return packages
}

const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

/** Starts the registry. It ends with the test. @returns its URL */
export async function startRegistry (t: Test): Promise<string> {
  const packages = installedPackages()
  const server = http.createServer((request, response) => {
    const path = decodeURIComponent(request.url!)
    const [, name = '', version] = /^\/((?:@[^/]+\/)?[^/]+)(?:\/-\/(.+)\.tgz)?$/.exec(path) ?? []
    const versions = packages.get(name)
    const folder = version === undefined ? undefined : versions?.get(version)
    if (folder !== undefined) sendTarball(folder, response)
    else if (versions !== undefined) response.end(JSON.stringify(packument(name, versions, url)))
    else response.writeHead(404).end('{}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.teardown(() => new Promise<void>(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  }))
  return url
}

/** Returns the metadata of a package. The version in the root of node_modules is the latest. */
function packument (name: string, versions: ReadonlyMap<string, string>, url: string): object {
  const atRoot = join(root, 'node_modules', name)
  return {
    name,
    'dist-tags': { latest: manifestOf(existsSync(atRoot) ? atRoot : [...versions.values()][0]!).version },
    versions: Object.fromEntries([...versions].map(([version, folder]) => [version, {
      ...manifestOf(folder), dist: { tarball: `${url}/${name}/-/${version}.tgz` }
    }]))
  }
}

/** npm removes the first folder of each path, so its name does not matter. */
function sendTarball (folder: string, response: http.ServerResponse): void {
  const parts = ['-cf', '-', '--exclude', 'node_modules', '-C', dirname(folder), basename(folder)]
  spawn('tar', parts, { stdio: ['ignore', 'pipe', 'inherit'] }).stdout.pipe(response)
}
