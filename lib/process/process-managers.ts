/**
 * Connects a server to the managers of its process. The file of a manager is loaded only if the environment shows this
 * manager. It is loaded when the plugin is registered, because a deploy may replace the files before the shutdown.
 */
import nodeCluster from 'node:cluster'
import { connectFastifyCli } from './fastify-cli'
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'

/**
 * Connects a server to PM2, the primary of node:cluster, `fastify start --watch` and systemd, as far as they manage
 * this process.
 *
 * @param signals the option `signals`; with `false` the plugin adds no listener to the process, so it connects to none
 * @param onProblem called at most once, if systemd cannot be notified
 */
export function connectManagers (
  server: ManagedServer,
  signals: readonly unknown[] | false,
  onProblem: (message: string, error: unknown) => void
): ManagerConnection {
  if (signals === false) return notManaged
  const connections = [connectFastifyCli(server)]
  if (process.env.pm_id) connections.push((require('./pm2') as typeof import('./pm2.js')).connectPm2(server))
  if (nodeCluster.isWorker) {
    connections.push((require('./cluster') as typeof import('./cluster.js')).connectCluster(server))
  }
  if (process.env.NOTIFY_SOCKET) {
    const { connectSystemd } = require('./systemd') as typeof import('./systemd.js')
    connections.push(connectSystemd(server, { onProblem: error => onProblem('systemd is not notified', error) }))
  }
  return {
    notifyReady () { for (const connection of connections) connection.notifyReady() },
    close () { for (const connection of connections) connection.close() }
  }
}
