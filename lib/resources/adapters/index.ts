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

export {
  amqpConnectionManager, amqpRecoveringConnection, type AmqpConnectionManager, type AmqpRecoveringConnection
} from './amqp-reconnecting'
export { amqpConnection, type AmqpConnection } from './amqplib'
export { amqpChannel, type AmqpChannel } from './amqplib-channel'
export { bullmqQueue, bullmqWorker, type BullMQQueue, type BullMQWorker } from './bullmq'
export { drizzle, type DrizzleDatabase } from './drizzle'
export { ioredis, type IORedis } from './ioredis'
export { kafkaClient, type KafkaClient } from './kafkajs'
export { knex, type Knex } from './knex'
export { kysely, type Kysely } from './kysely'
export { mongoClient, type MongoClient } from './mongodb'
export { mongoose, mongooseConnection, type Mongoose, type MongooseConnection } from './mongoose'
export { mqttClient, type MqttClient } from './mqtt'
export { mysqlConnection, mysqlPool, type MysqlConnection, type MysqlPool } from './mysql2'
export { natsConnection, type NatsConnection } from './nats'
export { nodeRedis, type NodeRedis } from './node-redis'
export { openTelemetry, type OpenTelemetry } from './opentelemetry'
export { pgBoss, type PgBoss } from './pg-boss'
export { pgClient, type PgClient } from './pg-client'
export { pgPool, type PgPool } from './pg-pool'
export { pinoDestination, pinoLogger, type PinoDestination, type PinoLogger } from './pino'
export { piscina, type Piscina } from './piscina'
export { postgresJs, type PostgresJs } from './postgres-js'
export { prisma, type PrismaClient } from './prisma'
export { sentry, type Sentry } from './sentry'
export { sequelize, type Sequelize } from './sequelize'
export { typeOrmDataSource, type TypeOrmDataSource } from './typeorm'
export { undiciDispatcher, type UndiciDispatcher } from './undici'
export type { Adapter, AdapterOptions } from './adapter'
