/**
 * No contender but the floor: an onRequest hook that does nothing, which is the least that a plugin with one can cost.
 */
export const label = 'onRequest, which does nothing'
export const parts = ['running']

export function install (app) {
  app.addHook('onRequest', (request, reply, done) => { done() })
}
