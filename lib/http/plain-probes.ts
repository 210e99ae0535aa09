/** The health routes of a plain server. They are answered before the handler of the server gets the request. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { replaceMethod } from '../util/replaced-methods'
import type { InFlightTable } from './in-flight'
import { pathOf } from './plain-exempt'
import type { Probe } from './probes'

/** Answers the health routes of a server. Without routes, the server does not change. */
export function answerProbes (
  server: Server, probes: readonly Probe[], inFlight: Pick<InFlightTable, 'track'>
): void {
  if (probes.length === 0) return
  const byPath = new Map(probes.map(probe => [probe.path, probe]))
  // Another listener of `request` would answer, too. It may also be added later.
  replaceMethod(server, 'emit', original => function (this: Server, ...args: unknown[]) {
    const [event, req, res] = args as [string, IncomingMessage, ServerResponse]
    const probe = event === 'request' && (req.method === 'GET' || req.method === 'HEAD')
      ? byPath.get(pathOf(req))
      : undefined
    if (probe === undefined) return Reflect.apply(original, this, args)
    inFlight.track(req, res)
    void answer(probe, res)
    return true
  } as Server['emit'])
}

async function answer (probe: Probe, res: ServerResponse): Promise<void> {
  const { status, headers, body } = await probe.answer()
  if (res.headersSent || res.destroyed) return
  const text = JSON.stringify(body)
  res.writeHead(status, {
    ...headers, 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(text)
  })
  res.end(text)
}
