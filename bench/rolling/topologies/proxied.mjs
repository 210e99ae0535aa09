/** Three instances behind a proxy, restarted one after another; each comes back on its own port. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../orders.mjs'
import { listens, message, start, stop } from './processes.mjs'

const instances = 3

/**
 * `minReady` is what a roll-out calls minReadySeconds: an instance counts as back when it has been ready for this long,
 * in milliseconds.
 *
 * @param {{ command: string, minReady: number, config: (place: { port: number, upstreams: number[], directory: string }) => string, args: (file: string, directory: string) => string[],
 *   env?: (directory: string) => Record<string, string>, stopSignal: NodeJS.Signals }} proxy
 */
export async function startProxied (proxy, { script, env, directory, log, note = () => {} }) {
  const upstreams = []
  for (let n = 0; n < instances; n++) upstreams.push(await freePort())
  const running = await Promise.all(upstreams.map(launch))
  const port = await freePort()
  const file = join(directory, 'proxy.conf')
  await writeFile(file, proxy.config({ port, upstreams, directory }))
  const front = start(proxy.command, proxy.args(file, directory), { env: proxy.env?.(directory), log })
  await listens(port)
  await sleep(proxy.minReady)
  let restarts = 0

  return {
    url: `http://127.0.0.1:${port}`,
    /**
     * @param among only so many instances are restarted, and the others never
     * @returns how each stopped process ended
     */
    async restart (times, among = instances) {
      const ends = []
      for (let n = 0; n < times; n++) {
        const which = restarts++ % among
        note(`SIGTERM to instance ${which}`)
        ends.push(await stop(running[which]))
        running[which] = await launch(upstreams[which])
        await sleep(proxy.minReady)
      }
      return ends
    },
    async stop () {
      await Promise.all(running.map(child => stop(child)))
      await stop(front, proxy.stopSignal)
    }
  }

  async function launch (upstream) {
    const child = start(process.execPath, [script], { env: { ...env, PORT: String(upstream) }, ipc: true, log })
    await message(child, 'ready')
    return child
  }
}
