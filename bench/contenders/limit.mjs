/**
 * No contender but a bound: the least that can be done, which skips Fastify's onClose hooks and all else that a service
 * needs. Every connection without an answer on the way is destroyed, and the process exits when the last answer is out.
 */
export const label = 'limit: raw server.close() and exit'
export const parts = ['tail', 'idle']

export function install (app) {
  const { server } = app
  const sockets = new Set()
  const answers = new Set()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.prependListener('request', (req, res) => {
    answers.add(res)
    res.once('close', () => answers.delete(res))
  })
  process.once('SIGTERM', () => {
    server.close(() => process.exit(0))
    const busy = new Set(Array.from(answers, res => res.socket))
    for (const res of answers) res.shouldKeepAlive = false
    for (const socket of sockets) if (!busy.has(socket)) socket.destroy()
  })
}
