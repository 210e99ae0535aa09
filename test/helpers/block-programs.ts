/**
 * Completes a code block to a program: it declares the names that the block uses, and lets an app listen. The clients
 * and libraries behind the names are real ones.
 */
import ts from 'typescript'
import type { Block } from './blocks'

/** What a block may use without a declaration. A declaration may use other names of the table. */
const names: Readonly<Record<string, string>> = {
  Fastify: "import Fastify from 'fastify'",
  gracefulShutdown: "import gracefulShutdown from 'fastify-shutdown'",
  sse: "import { sse } from 'fastify-shutdown'",
  require: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)",
  app: 'const app = Fastify({ logger: true, return503OnClosing: false })',
  sleep: "import { setTimeout as sleep } from 'node:timers/promises'",
  http: "import http from 'node:http'",
  os: "import os from 'node:os'",
  spawn: "import { spawn } from 'node:child_process'",
  cluster: "import cluster from 'node:cluster'",

  connectionString: 'const connectionString = process.env.POSTGRES_URL',
  url: 'const url = process.env.REDIS_URL',
  connection: 'const connection = { host: new URL(url).hostname, port: Number(new URL(url).port) }',
  fastifyPostgres: "import fastifyPostgres from '@fastify/postgres'",
  fastifyRedis: "import fastifyRedis from '@fastify/redis'",
  fastifyMysql: "import fastifyMysql from '@fastify/mysql'",
  fastifySse: "import fastifySse from '@fastify/sse'",
  cors: "import cors from '@fastify/cors'",
  pg: "import pg from 'pg'",
  pool: 'const pool = new pg.Pool({ connectionString })',
  bullmq: "import * as bullmq from 'bullmq'",
  queue: "const queue = new bullmq.Queue('blocks', { connection })",
  worker: "const worker = new bullmq.Worker('blocks', async () => {}, { connection })",

  pushgateway: "const pushgateway = http.createServer((request, response) => { console.log('pushed', request.method, request.url); request.resume().on('end', () => response.end()) }).listen(0, '127.0.0.1').unref(); await new Promise(resolve => pushgateway.once('listening', resolve))",
  registry: 'const registry = new prom.Registry()',
  register: 'const { register } = prom',
  prom: "import prom from 'prom-client'",
  prometheus: "import { prometheus } from 'fastify-shutdown/prometheus'",

  attach: "import { attach } from 'fastify-shutdown/http'",
  server: 'const server = http.createServer((request, response) => response.end())',
  pino: "import pino from 'pino'",

  Server: "import { Server } from 'socket.io'",
  WebSocketServer: "import { WebSocketServer } from 'ws'",
  trpc: "import { initTRPC } from '@trpc/server'; const trpc = initTRPC.create()",
  applyWSSHandler: "import { applyWSSHandler } from '@trpc/server/adapters/ws'",
  handler: 'const handler = applyWSSHandler({ wss: new WebSocketServer({ server: app.server }), router: trpc.router({}) })',

  // A search service of this process, and functions of a shop.
  searchServer: "const searchServer = http.createServer((request, response) => response.end()).listen(0, '127.0.0.1').unref(); await new Promise(resolve => searchServer.once('listening', resolve))",
  searchUrl: 'const searchUrl = `http://127.0.0.1:${searchServer.address().port}`', // eslint-disable-line no-template-curly-in-string
  search: 'const search = Object.assign(async signal => { await sleep(50, undefined, { signal }).catch(() => {}); return [] }, { flush: async () => {}, destroy () {} })',
  pay: 'const pay = async () => { await sleep(50) }',
  save: "const save = async what => { await sleep(10); console.log('saved'); return what ?? {} }",
  // A sleep is the work of a function, and no test waits for it.
  pack: 'const pack = async (parcel, signal) => { await sleep(200, undefined, { signal }) }',
  run: 'const run = async () => { await sleep(50) }',
  steps: 'const steps = () => [1, 2, 3]',
  saveUpload: 'const saveUpload = async request => { await sleep(50); return request.body }',
  rows: "const rows = async function * () { for (let row = 1; ; row++) { yield JSON.stringify({ row }) + '\\n'; await sleep(20) } }",
  events: "const events = async function * () { for (let event = 1; ; event++) { yield 'data: ' + event + '\\n\\n'; await sleep(20) } }"
}

/** Names that have another meaning on one page. */
const namesOfPage: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  // A worker of node:cluster. Each worker runs `server.js`.
  'docs/pm2.md': {
    worker: "cluster.setupPrimary({ exec: 'server.js' }); const worker = cluster.fork(); await new Promise(resolve => worker.once('listening', resolve))"
  }
}

/** Addresses on other machines, with the local address that replaces each of them. */
const elsewhere: Readonly<Record<string, string>> = {
  'http://pushgateway:9091': 'http://127.0.0.1:${pushgateway.address().port}', // eslint-disable-line no-template-curly-in-string
  '/var/lib/node_exporter/textfile/': './'
}

/** Code that is added before or after a block, if the block matches `has` and does not match `lacks`. */
const needs: ReadonlyArray<{ readonly has: RegExp, readonly lacks?: RegExp, readonly before?: string, readonly after?: string }> = [
  { has: /\breply\.sse\b/, before: 'await app.register(gracefulShutdown); await app.register(fastifySse)' },
  // A fragment shows a part of an app whose plugin is registered elsewhere.
  {
    has: /\bapp\.(?:shutdown|shutdownState|get|post|addHook)\b|\bhandler\./,
    lacks: /register\(gracefulShutdown|reply\.sse|\battach\(/,
    before: 'await app.register(gracefulShutdown)'
  },
  { has: /from 'fastify-shutdown'/, lacks: /register\(|\bapp\.|teardown|const (?:options|exporter)/, after: 'await app.register(gracefulShutdown)' },
  { has: /const options\b.*const onReport\b/s, after: 'await app.register(gracefulShutdown, { ...options, onReport })' },
  { has: /const exporter\b/, after: 'await app.register(gracefulShutdown, { exporters: [exporter] })' },
  { has: /\bsubscribe\(/, after: 'await app.register(gracefulShutdown)' },
  {
    has: /\bconst schema\b/,
    after: "await app.register(gracefulShutdown, { onReport: report => { if (!validate(JSON.parse(JSON.stringify(report)))) throw new Error(ajv.errorsText(validate.errors)) } }); const { default: Ajv } = await import('ajv'); const ajv = new Ajv({ strict: false }); const validate = ajv.compile(schema)"
  },
  { has: /\bfastifyMysql\b/, before: 'const connectionString = process.env.MYSQL_URL' },
  { has: /\bapp\.pg\b|'postgres'\]/, lacks: /register\(fastifyPostgres|teardown/, after: 'await app.register(fastifyPostgres, { connectionString })' },
  { has: /'redis'\]/, lacks: /register\(fastifyRedis/, after: 'await app.register(fastifyRedis, { url })' },
  { has: /\bsetTimeout\(\(\) => worker\.process/, after: "next.once('listening', () => worker.once('exit', code => { console.log('the old worker ended with', code); next.once('exit', last => process.exit(last)); next.process.kill('SIGTERM') }))" },
  { has: /spawn\(process\.execPath/, after: "service.stdout.on('data', line => { if (String(line).includes('Server listening')) service.kill('SIGTERM') }); service.once('exit', code => process.exit(code ?? 1))" }
]

/** What a block does: it listens until SIGTERM, its tests run, or it ends by itself. */
export type Run = 'serves' | 'tests' | 'ends'

export interface Program {
  readonly run: Run
  /** The code, as an ES module. */
  readonly code: string
  /** Method and path of each route that the block adds. */
  readonly routes: ReadonlyArray<{ readonly method: string, readonly path: string }>
  /** The services that the program connects to. */
  readonly services: ReadonlyArray<'postgres' | 'redis' | 'mysql'>
}

export function completeProgram (block: Block): Program {
  const code = onThisMachine(block.language === 'ts' ? withoutTypes(block.code) : block.code)
  const run: Run = /from 'node:test'/.test(code) ? 'tests' : /\b(?:teardown|fork|spawn)\(/.test(code) ? 'ends' : 'serves'
  const needed = run === 'tests' ? [] : needs.filter(({ has, lacks }) => has.test(code) && lacks?.test(code) !== true)
  const parts = [...needed.map(({ before = '' }) => before), code, ...needed.map(({ after = '' }) => after)]
  if (run === 'serves' && !/\b(?:app|server)\.listen\(/.test(code)) {
    parts.push(/\battach\(/.test(code) ? "server.listen(3000, '127.0.0.1')" : "await app.listen({ port: 3000, host: '127.0.0.1' })")
  }
  const body = parts.filter(part => part !== '').join('\n')
  const whole = [...declarations(body, block), body].join('\n')
  return {
    run,
    code: whole,
    routes: routesOf(code),
    services: [
      ...(whole.includes('POSTGRES_URL') || whole.includes('pg.Pool()')) && !code.includes('fastifyMysql') ? ['postgres'] as const : [],
      ...whole.includes('REDIS_URL') ? ['redis'] as const : [],
      ...code.includes('fastifyMysql') ? ['mysql'] as const : []
    ]
  }
}

/** Replaces addresses on other machines. A string with a variable becomes a template. */
function onThisMachine (code: string): string {
  for (const [there, here] of Object.entries(elsewhere)) code = code.replaceAll(`'${there}`, `'${here}`).replace(/'([^'\n]*\$\{[^'\n]*)'/g, '`$1`')
  return code
}

export function withoutTypes (code: string): string {
  return ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true } }).outputText
}

function routesOf (code: string): Array<{ method: string, path: string }> {
  const routes = [...code.matchAll(/\bapp\.(get|post)\('([^']+)'/g)].map(match => ({ method: match[1]!.toUpperCase(), path: match[2]! }))
  if (/\bprobes:/.test(code)) routes.push({ method: 'GET', path: /readiness: '([^']+)'/.exec(code)?.[1] ?? '/health/ready' })
  return routes
}

/** Returns the declarations of the names that the code uses and does not declare. @throws if a name is unknown */
export function declarations (code: string, { place, page }: Block): string[] {
  const found = new Map<string, string>()
  const add = (text: string): void => {
    for (const name of freeNames(text)) {
      if (found.has(name) || name in globalThis) continue
      const declaration = namesOfPage[page]?.[name] ?? names[name]
      if (declaration === undefined) throw new Error(`${place}: the block uses '${name}', which it does not declare`)
      found.set(name, '') // it is being added
      add(declaration)
      found.delete(name) // adds it again, after what it uses
      found.set(name, declaration)
    }
  }
  add(code)
  return [...found.values()]
}

/** Returns the names that code uses and does not declare, regardless of scopes. */
export function freeNames (code: string): string[] {
  const declared = new Set<string>()
  const used = new Set<string>()
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const { parent } = node
      const declares = (ts.isVariableDeclaration(parent) || ts.isParameter(parent) || ts.isBindingElement(parent) || ts.isFunctionDeclaration(parent) ||
        ts.isClassDeclaration(parent) || ts.isImportSpecifier(parent) || ts.isImportClause(parent) || ts.isNamespaceImport(parent)) && parent.name === node
      const isKey = (ts.isPropertyAccessExpression(parent) && parent.name === node) || (ts.isPropertyAssignment(parent) && parent.name === node) ||
        (ts.isMethodDeclaration(parent) && parent.name === node) || (ts.isBindingElement(parent) && parent.propertyName === node) ||
        (ts.isImportSpecifier(parent) && parent.propertyName === node) || ts.isMetaProperty(parent)
      if (declares) declared.add(node.text)
      else if (!isKey) used.add(node.text)
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile('block.mjs', code, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS))
  return [...used].filter(name => !declared.has(name) && name !== 'undefined')
}
