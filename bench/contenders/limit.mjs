/**
 * The reference for the other contenders: the least that a shutdown can do. It runs no onClose hook, and closes nothing
 * that a service needs. It destroys every connection without an answer in flight, and exits after the last answer.
 */
export const label = 'reference: raw server.close() and exit'
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
