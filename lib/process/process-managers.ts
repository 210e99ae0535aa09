/** Connects a server to the managers of its process. A manager that is not there costs nothing. */
import { connectCluster } from './cluster'
import { connectFastifyCli } from './fastify-cli'
import { connectPm2 } from './pm2'
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'
import { connectSystemd } from './systemd'

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
  const connections = [
    connectPm2(server),
    connectCluster(server),
    connectFastifyCli(server),
    connectSystemd(server, { onProblem: error => onProblem('systemd is not notified', error) })
  ]
  return {
    notifyReady () { for (const connection of connections) connection.notifyReady() },
    close () { for (const connection of connections) connection.close() }
  }
}
