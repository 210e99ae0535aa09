/** The primary of node:cluster, with the service as its one worker. SIGTERM disconnects the worker. */
import cluster from 'node:cluster'
import { writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

cluster.setupPrimary({ exec: fileURLToPath(new URL('service.mjs', import.meta.url)) })
const worker = cluster.fork()
worker.on('exit', code => { writeSync(1, `worker exit ${code}\n`) })
process.on('SIGTERM', () => worker.disconnect())
