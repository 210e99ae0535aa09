/**
 * NestJS on Fastify: version 11, or the version that is installed in the folder NEST_FOLDER. Each case is a process of its
 * own, with a request in flight at SIGTERM.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'

const directory = translate(t.testdir(), ['lib'])
const file = join(directory, 'nest.js')
const folder = process.env['NEST_FOLDER'] ?? directory

// Without decorators, because Node runs it as it is.
writeFileSync(file, `
  const nest = require('node:module').createRequire(${JSON.stringify(join(folder, 'nest.js'))})
  nest('reflect-metadata')
  const { Controller, Get, Module } = nest('@nestjs/common')
  const { NestFactory } = nest('@nestjs/core')
  const { FastifyAdapter } = nest('@nestjs/platform-fastify')
  const http = require('node:http')
  const say = line => process.stdout.write(line + '\\n')
  const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })
  let isOpen = true

  class Slow { async get () { say('slow begins'); await sleep(800); return isOpen ? 'open' : 'closed' } }
  Get('slow')(Slow.prototype, 'get', Object.getOwnPropertyDescriptor(Slow.prototype, 'get'))
  Controller()(Slow)
  class Database {
    async onModuleDestroy () { say('onModuleDestroy') }
    async beforeApplicationShutdown () { say('beforeApplicationShutdown') }
    async onApplicationShutdown () { await sleep(300); isOpen = false; say('onApplicationShutdown') }
  }
  class App {}
  Module({ controllers: [Slow], providers: [Database] })(App)

  async function main () {
    const app = await NestFactory.create(App, new FastifyAdapter(), { logger: false })
    await app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
      delay: 0,
      onReport: ({ outcome, exitCode }) => say('report ' + outcome + ' ' + exitCode),
      ...process.env.MODE === 'resource' ? { resources: { nest: { close: () => app.close() } } } : {}
    })
    if (process.env.MODE === 'hooks') app.enableShutdownHooks()
    await app.listen(0, '127.0.0.1')
    process.on('exit', code => say('exit ' + code))
    const { port } = app.getHttpServer().address()
    http.get({ port, path: '/slow', host: '127.0.0.1' }, response => response.on('data', data => say('answer ' + response.statusCode + ' ' + data)))
  }
  void main()
`)

async function stop (t: Test, mode: string): Promise<Child> {
  const child = run(t, { args: [file], cwd: directory, env: { MODE: mode } })
  await child.said('slow begins')
  child.kill('SIGTERM')
  await child.ended
  return child
}

void t.test('with the Nest app as a resource, its hooks run when the server is drained, and the exit code is 0', async t => {
  const child = await stop(t, 'resource')
  t.strictSame(child.lines, [
    'slow begins', 'answer 200 open', 'onModuleDestroy', 'beforeApplicationShutdown', 'onApplicationShutdown', 'report clean 0', 'exit 0'
  ])
  t.equal((await child.ended).code, 0)
})

void t.test('with enableShutdownHooks(), an onApplicationShutdown of 300 ms is not interrupted', async t => {
  const child = await stop(t, 'hooks')
  t.strictSame(child.lines, [
    'slow begins', 'onModuleDestroy', 'beforeApplicationShutdown', 'answer 200 open', 'report clean 0', 'onApplicationShutdown'
  ])
  t.equal((await child.ended).signal, 'SIGTERM', 'Nest sends itself the signal again')
})
