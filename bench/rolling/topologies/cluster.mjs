/** node:cluster without a proxy: a primary that replaces its workers one by one on SIGHUP. */
import { fileURLToPath } from 'node:url'
import { freePort } from '../orders.mjs'
import { message, start, stop } from './processes.mjs'

const primary = fileURLToPath(new URL('primary.mjs', import.meta.url))
const workers = 3

export const cluster = {
  name: 'node:cluster',
  missing: null,
  version: () => process.versions.node,
  async start ({ script, env, log, note }) {
    const port = await freePort()
    const child = start(process.execPath, [primary], { env: { ...env, PORT: String(port), SERVICE: script, WORKERS: String(workers) }, ipc: true, log })
    await message(child, 'ready')

    return {
      url: `http://127.0.0.1:${port}`,
      async restart (times) {
        const ends = []
        child.on('message', said => {
          if (said.stopping !== undefined) note(`SIGTERM to instance ${said.stopping}`)
          if (said.ms !== undefined) ends.push(said)
        })
        while (ends.length < times) {
          const reloaded = message(child, 'reloaded')
          child.kill('SIGHUP')
          await reloaded
        }
        return ends
      },
      stop: () => stop(child)
    }
  }
}
