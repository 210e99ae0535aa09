/** The answer of every server: after 20 ms, so that requests are in flight at the signal. */
import { setTimeout as sleep } from 'node:timers/promises'

export async function answer () {
  await sleep(20)
  return { hello: 'world' }
}
