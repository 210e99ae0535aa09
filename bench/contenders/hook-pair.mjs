/**
 * No contender but a scale: what counting with Fastify's own pair of hooks costs, which is how one would write it
 * first.
 */
export const label = 'onRequest + onResponse'
export const parts = ['running', 'memory']

export function install (app) {
  let inFlight = 0
  app.addHook('onRequest', (request, reply, done) => {
    inFlight++
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    inFlight--
    done()
  })
  app.decorate('inFlight', { getter: () => inFlight })
}
