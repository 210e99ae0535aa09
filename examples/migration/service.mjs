/** What the services of this folder use: a database and a worker, which print what happens to them. */
import { setTimeout as sleep } from 'node:timers/promises'

let open = true

/** A query takes 300 ms, and fails if the database is closed meanwhile. */
export const database = {
  async query () {
    await sleep(300)
    if (!open) throw new Error('the database is closed')
    return { rows: 1 }
  },
  async ping () { return open },
  async close () {
    open = false
    console.log('the database has closed')
  }
}

export const worker = {
  async pause () { console.log('the worker takes no new job') }
}
