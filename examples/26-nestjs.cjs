/**
 * Lesson 26: NestJS. The Nest app is a resource, so that its hooks run when the server is drained, and the database of
 * a provider closes after the last answer.
 */
require('reflect-metadata')
const { Module } = require('@nestjs/common')
const { NestFactory } = require('@nestjs/core')
const { FastifyAdapter } = require('@nestjs/platform-fastify')
const gracefulShutdown = require('fastify-shutdown')
const { setTimeout: sleep } = require('node:timers/promises')

class Database {
  onModuleDestroy () { console.log('the database closes') }
}

class AppModule {}
Module({ providers: [Database] })(AppModule) // in TypeScript: @Module({ providers: [Database] })

async function main () {
  const app = await NestFactory.create(AppModule, new FastifyAdapter(), { logger: false })
  await app.register(gracefulShutdown, {
    resources: { nest: { close: () => app.close() } }
  })
  app.getHttpAdapter().getInstance().get('/slow', async () => {
    process.kill(process.pid, 'SIGTERM')
    await sleep(300)
    console.log('the request is answered')
    return { finished: true }
  })
  await app.listen(0, '127.0.0.1')
  const response = await fetch(`${await app.getUrl()}/slow`)
  console.log(response.status)
}

main()
