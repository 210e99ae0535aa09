/** No contender: bare Fastify, measured as if it were one. What it differs by is noise. */
import { label as first } from './bare.mjs'

export const label = `${first}, once more`
export const parts = ['running', 'start']

export { install } from './bare.mjs'
