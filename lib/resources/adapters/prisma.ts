/**
 * PrismaClient, by its documented methods. They are all that the adapter uses, because its package generates the
 * client. `$disconnect()` ends the engine or the driver adapter. Prisma has no way to end it by force.
 */
import type { Resource } from '../../../types/index'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { hasMethods } from './structure'

/** The part of a PrismaClient that the adapter uses. */
export interface PrismaClient {
  $disconnect (): Promise<void>
}

/** Recognises a PrismaClient, which is a Proxy, also after `$extends()`. */
export const prismaAdapter: Adapter<PrismaClient> = {
  kind: 'PrismaClient',
  mayBeProxy: true,
  matches: client => hasMethods(client, '$connect', '$disconnect', '$transaction', '$extends'),
  adapt: prisma
}

/** Turns a PrismaClient into a resource. */
export function prisma (client: PrismaClient): Resource {
  return closeOnce({ close: () => client.$disconnect() })
}
