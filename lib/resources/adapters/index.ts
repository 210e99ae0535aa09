/**
 * Adapters for known clients: entry point `fastify-shutdown/adapters`. For `{ client }` the adapter is found by the
 * structure of the client. Each adapter is also an exported function.
 *
 * @example
 * resources: { worker: { client: worker, dependsOn: ['redis'] } }        // finds its adapter
 * resources: { worker: { ...bullmqWorker(worker), dependsOn: ['redis'] } } // names it
 */
import { adapterFinder } from './adapter'
import type { Adapter } from './adapter'
import { amqpConnectionManagerAdapter, amqpRecoveringAdapter } from './amqp-reconnecting'
import { amqpConnectionAdapter } from './amqplib'
import { amqpChannelAdapter } from './amqplib-channel'
import { bullmqQueueAdapter, bullmqWorkerAdapter } from './bullmq'
import { drizzleAdapter } from './drizzle'
import { ioredisAdapter } from './ioredis'
import { kafkaAdapter } from './kafkajs'
import { knexAdapter } from './knex'
import { kyselyAdapter } from './kysely'
import { mongoAdapter } from './mongodb'
import { mongooseAdapter, mongooseConnectionAdapter } from './mongoose'
import { mqttAdapter } from './mqtt'
import { mysqlConnectionAdapter, mysqlPoolAdapter } from './mysql2'
import { natsAdapter } from './nats'
import { nodeRedisAdapter } from './node-redis'
import { openTelemetryAdapter } from './opentelemetry'
import { pgBossAdapter } from './pg-boss'
import { pgClientAdapter } from './pg-client'
import { pgPoolAdapter } from './pg-pool'
import { pinoDestinationAdapter, pinoLoggerAdapter } from './pino'
import { piscinaAdapter } from './piscina'
import { postgresJsAdapter } from './postgres-js'
import { prismaAdapter } from './prisma'
import { sentryAdapter } from './sentry'
import { sequelizeAdapter } from './sequelize'
import { typeOrmAdapter } from './typeorm'
import { undiciAdapter } from './undici'

/** All adapters, in the order in which they are tried. */
export const adapters: readonly Adapter[] = [
  pgPoolAdapter, pgClientAdapter, ioredisAdapter, nodeRedisAdapter, bullmqWorkerAdapter, bullmqQueueAdapter,
  mysqlPoolAdapter, mysqlConnectionAdapter, mongoAdapter, amqpConnectionAdapter, amqpChannelAdapter,
  amqpRecoveringAdapter, amqpConnectionManagerAdapter, kafkaAdapter, natsAdapter, mqttAdapter, undiciAdapter,
  openTelemetryAdapter, pinoLoggerAdapter, pinoDestinationAdapter, knexAdapter, kyselyAdapter, drizzleAdapter,
  typeOrmAdapter, sequelizeAdapter, mongooseAdapter, mongooseConnectionAdapter, prismaAdapter, postgresJsAdapter,
  pgBossAdapter, piscinaAdapter, sentryAdapter
]

/**
 * Turns a known client into a resource.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT for an unknown client, with the list of known kinds
 */
export const adapterFor = adapterFinder(adapters)

export { amqpConnectionManager, amqpRecoveringConnection } from './amqp-reconnecting'
export { amqpConnection } from './amqplib'
export { amqpChannel } from './amqplib-channel'
export { bullmqQueue, bullmqWorker } from './bullmq'
export { drizzle } from './drizzle'
export { ioredis } from './ioredis'
export { kafkaClient } from './kafkajs'
export { knex } from './knex'
export { kysely } from './kysely'
export { mongoClient } from './mongodb'
export { mongoose, mongooseConnection } from './mongoose'
export { mqttClient } from './mqtt'
export { mysqlConnection, mysqlPool } from './mysql2'
export { natsConnection } from './nats'
export { nodeRedis } from './node-redis'
export { openTelemetry } from './opentelemetry'
export { pgBoss } from './pg-boss'
export { pgClient } from './pg-client'
export { pgPool } from './pg-pool'
export { pinoDestination, pinoLogger } from './pino'
export { piscina } from './piscina'
export { postgresJs } from './postgres-js'
export { prisma } from './prisma'
export { sentry } from './sentry'
export { sequelize } from './sequelize'
export { typeOrmDataSource } from './typeorm'
export { undiciDispatcher } from './undici'
export type { Adapter, AdapterOptions } from './adapter'
