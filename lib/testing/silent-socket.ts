/** `silentSocket`: a client that connects and sends nothing, as browsers and load balancers open in advance. */
import { connect, type AddressInfo, type NetConnectOpts, type Server, type Socket } from 'node:net'
import { ShutdownTestError } from '../errors'
import type { AnyApp } from './any-app'

/** The `listen()` of each app that `silentSocket` has started. */
const started = new WeakMap<AnyApp, Promise<string>>()

/**
 * Connects to an app and sends nothing. Resolves when the server has accepted the connection. If the app does not
 * listen, it first listens on a random port of 127.0.0.1.
 *
 * The socket closes when the server closes the connection, as every server with the plugin does. It does not keep the
 * process alive, its errors are ignored, and data that arrives without a `data` listener is dropped.
 *
 * @throws FST_ERR_SHUTDOWN_TEST if the server does not accept the connection. Rejects if `listen()` fails
 */
export async function silentSocket (app: AnyApp): Promise<Socket> {
  if (!app.server.listening) await listen(app)
  const server: Server = app.server
  const socket = connect(optionsOf(server))
  socket.unref()
  socket.resume()
  await untilAccepted(server, socket)
  return socket
}

/** Two sockets at once share one `listen()`, because Fastify's second one fails. */
async function listen (app: AnyApp): Promise<unknown> {
  const listening = started.get(app) ?? app.listen({ port: 0, host: '127.0.0.1' })
  started.set(app, listening)
  return await listening
}

function optionsOf (server: Server): NetConnectOpts {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return { path: address }
  const { port, address: host } = address
  // A server that listens on all addresses has no address of its own.
  if (host === '0.0.0.0') return { port, host: '127.0.0.1' }
  return { port, host: host === '::' ? '::1' : host }
}

/** The kernel connects a socket before the server accepts it. A socket of a file has no port, and is the next one. */
function untilAccepted (server: Server, socket: Socket): Promise<void> {
  const accepted = new Set<number | undefined>()
  return new Promise((resolve, reject) => {
    server.on('connection', onConnection)
    socket.on('connect', check)
    socket.on('error', onEnd)
    socket.on('close', onEnd)

    function onConnection ({ remotePort }: Socket): void {
      accepted.add(remotePort)
      check()
    }

    function check (): void {
      if (socket.connecting || !accepted.has(socket.localPort)) return
      server.removeListener('connection', onConnection)
      resolve()
    }

    // It also stays when the connection is accepted, because an error without a listener is an uncaught exception.
    function onEnd (error?: Error | boolean): void {
      server.removeListener('connection', onConnection)
      const reason = error instanceof Error ? error.message : 'it closed the connection at once'
      reject(new ShutdownTestError(`silentSocket(app) was not accepted by the server: ${reason}`))
    }
  })
}
