/** Starts plain servers with `attach`, and closes them at the end of the test. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { attach, type Attached, type AttachOptions, type PlainServer } from '../../lib/attach'
import { createDeferred } from '../../lib/util/deferred'
import type { Phase, ShutdownReport } from '../../types/index'
import { connect, eventually, get, type Client } from './client'

export interface AttachedSetup {
  readonly options?: AttachOptions
  /** Answers every request but `GET /hold`. @default an answer with the text 'served' */
  readonly handler?: RequestListener
  /** Creates the server. @default createServer of node:http */
  readonly create?: (handler: RequestListener) => PlainServer
  /** Runs before the server listens. */
  readonly before?: (server: Server, attached: Attached) => void
}

export interface AttachedServer extends Attached {
  readonly server: Server
  readonly port: number
  /** Resolves to the report of the shutdown. */
  readonly report: Promise<ShutdownReport>
  /** Answers the requests of `GET /hold`. */
  readonly release: () => void
  /** Opens a connection whose request is in flight until `release()`. */
  hold(): Promise<Client>
}

/** A server that listens. The shutdown listens to no signal, so that tests in one process are independent. */
export async function serveAttached (
  t: Test, { options = {}, handler = served, create = createServer, before }: AttachedSetup = {}
): Promise<AttachedServer> {
  const gate = createDeferred<void>()
  const report = createDeferred<ShutdownReport>()
  const server = create((req, res) => {
    if (req.url !== '/hold') return handler(req, res)
    void gate.promise.then(() => res.end('held'))
  }) as Server
  const attached = attach(server, { signals: false, delay: 0, log: false, onReport: report.resolve, ...options })
  t.teardown(async () => {
    gate.resolve()
    await attached.shutdown.start()
  })
  before?.(server, attached)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ...attached,
    server,
    port,
    report: report.promise,
    release: gate.resolve,
    async hold () {
      const client = await connect(port)
      t.teardown(() => client.socket.destroy())
      const { received } = attached.shutdownState.stats
      client.send(get('/hold'))
      await eventually(() => attached.shutdownState.stats.received > received, () => attached.shutdownState)
      return client
    }
  }
}

function served (_req: IncomingMessage, res: ServerResponse): void {
  res.end('served')
}

/** Resolves when the phase is entered. */
export function reached ({ shutdown, shutdownState }: Attached, phase: Phase): Promise<void> {
  return new Promise(resolve => {
    if (shutdownState.phase === phase) resolve()
    else shutdown.on(phase, () => resolve())
  })
}
