/** Clients of GraphQL over WebSockets, with the protocol graphql-transport-ws. */
import { createClient } from 'graphql-ws'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { createDeferred } from '../../lib/util/deferred'

export interface GraphqlClient {
  /** The code with which the connection was closed. */
  readonly closed: Promise<number>
  readonly isClosed: boolean
  /** Runs an operation. @returns its last result; rejects if the connection was closed before its end */
  run(query: string, onResult?: (data: unknown) => void): Promise<unknown>
}

/** Opens a connection. @returns once it is open */
export async function openGraphql (t: Test, url: string): Promise<GraphqlClient> {
  const opened = createDeferred<void>()
  const closed = createDeferred<number>()
  let isClosed = false
  const client = createClient({
    url,
    webSocketImpl: WebSocket,
    lazy: false,
    retryAttempts: 0,
    onNonLazyError () {},
    on: {
      connected: () => opened.resolve(),
      closed (event) {
        isClosed = true
        closed.resolve((event as { code: number }).code)
      }
    }
  })
  t.teardown(() => { void client.dispose() })
  await opened.promise
  return {
    closed: closed.promise,
    get isClosed () { return isClosed },
    run: (query, onResult = () => {}) => new Promise((resolve, reject) => {
      let last: unknown
      client.subscribe({ query }, {
        next ({ data }) {
          last = data
          onResult(data)
        },
        error: reject,
        complete: () => resolve(last)
      })
    })
  }
}

/** Runs one operation after the other until the connection is closed. */
export async function runUntilClosed (client: GraphqlClient, query: () => string, onAnswer: () => void): Promise<void> {
  while (!client.isClosed) {
    try {
      await client.run(query())
      onAnswer()
    } catch {
      return
    }
  }
}
