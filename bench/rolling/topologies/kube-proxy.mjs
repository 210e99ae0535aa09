/**
 * The mechanism of Kubernetes without Kubernetes, in a network namespace of its own: a service address that nftables
 * spreads over the instances (`numgen random mod N` with conntrack, as kube-proxy's nftables mode does), and a controller
 * that reads the readiness of each instance and changes the rule after a random lag. A new instance has a new port, as a
 * pod has a new address. An old one is stopped when the new one has its endpoint, as with `maxSurge: 1`.
 */
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../orders.mjs'
import { find, message, start, stop } from './processes.mjs'

const nft = find('nft')
const ip = find('ip')
const unshare = find('unshare')

const instances = 3
const service = '10.96.0.10'
/** Period and timeout of the readiness probe, in milliseconds. */
const period = 1_000
/** From a change of readiness to the change of the rule, in milliseconds. */
const lag = { min: 200, max: Number(process.env.ENDPOINT_LAG_MS ?? 8_000) }
/** Longest time of an instance to end, in milliseconds: Kubernetes' default grace period. */
const gracePeriod = 30_000

/** Set in the process that runs in the namespace. */
const inside = 'ROLLING_NETWORK_NAMESPACE'

export const kubeProxy = {
  name: "kube-proxy's nftables",
  missing: [[nft, 'nftables'], [ip, 'iproute2'], [unshare, 'util-linux']]
    .filter(([found]) => found === null).map(([, name]) => name).join(', ') || null,
  /** Why this user may not run it, `null` if it may. */
  forbidden: () => process.getuid?.() === 0 ? null : 'run as root, because it needs a network namespace',
  /**
   * The command that runs this topology, with these arguments of Node. `null` inside the namespace. Without the address
   * of the database, which cannot be reached from there.
   */
  enter: args => process.env[inside] === undefined ? { command: unshare, args: ['--net', process.execPath, ...args], env: { [inside]: '1', DATABASE_URL: undefined } } : null,
  version: () => execFileSync(nft, ['--version']).toString().match(/v(\d[\d.]*)/)[1],
  async start ({ script, env, log, note }) {
    execFileSync(ip, ['link', 'set', 'lo', 'up'])
    execFileSync(ip, ['address', 'replace', `${service}/32`, 'dev', 'lo'])
    const endpoints = new Set()
    const controller = createController(endpoints, note)
    const launch = async () => {
      const port = await freePort()
      const child = start(process.execPath, [script], {
        env: { ...env, PORT: String(port), KUBERNETES_SERVICE_HOST: '10.96.0.1', TERMINATION_GRACE_PERIOD_SECONDS: String(gracePeriod / 1_000) },
        ipc: true,
        log
      })
      await message(child, 'ready')
      controller.watch(port)
      return { child, port }
    }
    const running = []
    for (let n = 0; n < instances; n++) running.push(await launch())
    await controller.until(() => endpoints.size === instances)

    return {
      url: `http://${service}`,
      async restart (times) {
        const ends = []
        for (let n = 0; n < times; n++) {
          const next = await launch()
          await controller.until(() => endpoints.has(next.port))
          running.push(next)
          const old = running.shift()
          note(`SIGTERM to instance ${old.port}`)
          ends.push(await stop(old.child, 'SIGTERM', gracePeriod))
          await controller.until(() => !endpoints.has(old.port))
          controller.forget(old.port)
        }
        return ends
      },
      async stop () {
        controller.end()
        await Promise.all(running.map(({ child }) => stop(child, 'SIGTERM', gracePeriod)))
        execFileSync(nft, ['flush', 'ruleset'])
      }
    }
  }
}

/** Keeps the rule of the service up to date. @param {Set<number>} endpoints the ports in the rule */
function createController (endpoints, note) {
  const watched = new Map()
  return {
    watch (port) {
      let seen = false
      const timer = setInterval(async () => {
        const ready = await isReady(port)
        if (ready === seen || !watched.has(port)) return
        seen = ready
        await sleep(lag.min + Math.random() * (lag.max - lag.min))
        if (ready !== seen || !watched.has(port)) return
        if (ready) endpoints.add(port)
        else endpoints.delete(port)
        apply([...endpoints])
        note(`endpoints: ${[...endpoints].join(', ')}`)
      }, period)
      watched.set(port, timer)
    },
    forget,
    async until (holds) { while (!holds()) await sleep(20) },
    end () { for (const port of watched.keys()) forget(port) }
  }

  function forget (port) {
    clearInterval(watched.get(port))
    watched.delete(port)
  }
}

async function isReady (port) {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/ready`, { headers: { connection: 'close' }, signal: AbortSignal.timeout(period) })
    await response.arrayBuffer()
    return response.ok
  } catch {
    return false
  }
}

/** Replaces the rule in one transaction. Connections that exist stay where they are, by conntrack. */
function apply (ports) {
  const target = ports.map((port, n) => `${n} : 127.0.0.1 . ${port}`).join(', ')
  // Without an endpoint, the address has no rule, and refuses connections.
  const rule = ports.length === 0 ? '' : `ip daddr ${service} tcp dport 80 dnat ip to numgen random mod ${ports.length} map { ${target} }`
  execFileSync(nft, ['-f', '-'], {
    input: `table ip service\ndelete table ip service\ntable ip service {\n  chain output {\n    type nat hook output priority -100\n    ${rule}\n  }\n}\n`
  })
}
