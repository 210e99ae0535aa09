/**
 * A page that shows the shutdown of this service while it happens: `/status.html`. The page gets its data over SSE from
 * a small server of its own, which is a resource with `last`. So the page also shows the cleaning, in which the service
 * no longer listens.
 *
 * It shows names of resources and tasks, so it is off by default, and listens on the loopback address only.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import fp from 'fastify-plugin'
import { sse } from 'fastify-shutdown'
import { html } from './status-page-html'

/** How often the page gets the counts, in milliseconds. */
const interval = 250

/** The events of the shutdown that the page shows. */
const channels = ['phase', 'resource', 'hook', 'task'].map(type => `fastify-shutdown:${type}`)

export const statusPage = fp(async app => {
  const pages = new Set<ServerResponse>()
  /** The events so far, for a page that is opened or reloaded during the shutdown. */
  const past: string[] = []

  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'access-control-allow-origin': '*' })
    response.write([...past, state()].join(''))
    pages.add(response)
    response.on('close', () => pages.delete(response))
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  const { port } = server.address() as AddressInfo

  const send = (text: string): void => { for (const page of pages) page.write(text) }
  const timer = setInterval(() => send(state()), interval)
  const onEvent = (event: unknown): void => {
    const text = sse({ event: 'step', data: event })
    past.push(text)
    send(text + state())
  }
  for (const channel of channels) subscribe(channel, onEvent)

  app.shutdown.resource('status-page', {
    last: true,
    async close () {
      clearInterval(timer)
      for (const channel of channels) unsubscribe(channel, onEvent)
      for (const page of pages) page.end(sse({ event: 'over', data: {} }))
      await new Promise(resolve => { server.close(resolve) })
    },
    force () { server.closeAllConnections() }
  })

  // Exempt: the page can also be opened while the service drains.
  app.get('/status.html', { config: { shutdown: { exempt: true } } }, async (_request, reply) => {
    return reply
      .type('text/html')
      .header('cache-control', 'no-store')
      .header('content-security-policy', `default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src http://127.0.0.1:${port}`)
      .send(html(`http://127.0.0.1:${port}/`))
  })

  function state (): string {
    return sse({ event: 'state', data: app.shutdownState })
  }
}, { name: 'status-page', dependencies: ['fastify-shutdown'] })
