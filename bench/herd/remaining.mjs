/** A replica that remains: it answers, and remembers when each connection came. */
import { createServer } from 'node:net'

const arrivals = []
const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const server = createServer(socket => {
  arrivals.push(Date.now())
  socket.on('data', () => socket.write(answer))
  socket.on('error', () => {})
})
server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, () => process.send({ port: server.address().port }))
process.on('message', () => process.send({ arrivals }, () => process.exit(0)))
