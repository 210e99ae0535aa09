/** Connect over HTTP/2: @connectrpc/connect-fastify on the server, @connectrpc/connect-node as the client. */
import { create, toBinary } from '@bufbuild/protobuf'
import { fileDesc, serviceDesc, type GenService } from '@bufbuild/protobuf/codegenv2'
import { FileDescriptorProtoSchema, file_google_protobuf_wrappers as wrappers, type StringValueSchema } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError, createClient, type Client } from '@connectrpc/connect'
import { fastifyConnectPlugin } from '@connectrpc/connect-fastify'
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { ShutdownOptions, ShutdownReport } from '../../types/index'
import { eventually, portOf } from '../helpers/client'
import { entered, serve } from '../helpers/serve'

type Message = typeof StringValueSchema
type EchoService = GenService<{
  say: { methodKind: 'unary', input: Message, output: Message }
  count: { methodKind: 'server_streaming', input: Message, output: Message }
}>

/** The service as a compiler of .proto files describes it. */
const text = '.google.protobuf.StringValue'
const file = toBinary(FileDescriptorProtoSchema, create(FileDescriptorProtoSchema, {
  name: 'echo.proto',
  package: 'echo',
  dependency: ['google/protobuf/wrappers.proto'],
  service: [{ name: 'Echo', method: [{ name: 'Say', inputType: text, outputType: text }, { name: 'Count', inputType: text, outputType: text, serverStreaming: true }] }],
  syntax: 'proto3'
}))
const Echo = serviceDesc(fileDesc(Buffer.from(file).toString('base64'), [wrappers]), 0) as EchoService

interface Called {
  readonly app: FastifyInstance
  readonly report: Promise<ShutdownReport>
  /** A client with a session of its own. */
  client (): Client<EchoService>
}

const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

async function serveEcho (t: Test, protocol: string, options: ShutdownOptions = {}): Promise<Called> {
  const { app, report } = await serve(t, {
    fastify: { http2: true },
    options,
    routes: async app => {
      await app.register(fastifyConnectPlugin, {
        routes: router => router.service(Echo, {
          async say ({ value }) {
            await pause(200)
            return { value }
          },
          async * count ({ value }) {
            for (let index = 0; index < Number(value); index++) {
              yield { value: String(index) }
              // A service with endless streams ends them when draining begins.
              if (value === 'Infinity' && app.shutdownState.signal.aborted) return
              await pause(20)
            }
          }
        })
      })
    }
  })
  return {
    app,
    report,
    client () {
      const baseUrl = `http://127.0.0.1:${portOf(app)}`
      const sessionManager = new Http2SessionManager(baseUrl)
      t.teardown(() => sessionManager.abort())
      return createClient(Echo, protocol === 'gRPC' ? createGrpcTransport({ baseUrl, sessionManager }) : createConnectTransport({ baseUrl, sessionManager, httpVersion: '2' }))
    }
  }
}

async function collect (stream: AsyncIterable<{ readonly value: string }>): Promise<readonly string[]> {
  const values: string[] = []
  for await (const { value } of stream) values.push(value)
  return values
}

for (const protocol of ['Connect', 'gRPC']) {
  t.test(`${protocol}: unary and streaming calls in flight end normally, and a new call gets the code unavailable with retry-after`, async t => {
    const { app, report, client } = await serveEcho(t, protocol)
    const first = client()
    const said = first.say({ value: 'hello' })
    const counted = collect(first.count({ value: '20' }))
    const endless = collect(client().count({ value: 'Infinity' }))
    await eventually(() => app.shutdownState.activeRequests === 1 && app.shutdownState.activeStreams === 2, () => app.shutdownState)
    const closing = app.shutdown.start()
    await entered(app, 'draining')
    const rejected = await client().say({ value: 'late' }).then(() => null, error => ConnectError.from(error))
    t.equal(rejected?.code, Code.Unavailable)
    t.match(Object.fromEntries(rejected!.metadata), { 'retry-after': '10' })
    t.equal((await said).value, 'hello')
    t.strictSame(await counted, Array.from({ length: 20 }, (_each, index) => String(index)))
    t.ok((await endless).length > 0)
    const { durationMs } = await closing
    t.ok(durationMs < 5_000, `took ${durationMs} ms`)
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 3, rejected: 1, cut: [] }, streams: { cut: 0 } })
  })

  t.test(`${protocol}: a stream that does not end is cut, and its client sees an error`, async t => {
    const { app, report, client } = await serveEcho(t, protocol, { timeouts: { streams: 200 } })
    const stream = collect(client().count({ value: '1000' })).then(() => null, error => ConnectError.from(error))
    await eventually(() => app.shutdownState.activeStreams === 1, () => app.shutdownState)
    await app.shutdown.start()
    t.ok(await stream instanceof ConnectError)
    t.match(await report, { outcome: 'forced', streams: { cut: 1 } })
  })
}
