/**
 * Opens connections to a server and then does nothing. `idle` ones have had an answer, `silent` ones have sent no byte,
 * `half` ones have sent half a request head. A process of its own, so that their closing does not use the CPU time of
 * the measuring process.
 */
import { connect } from 'node:net'

const { port, count, kind } = JSON.parse(process.argv[2])
const words = { idle: 'GET / HTTP/1.1\r\nHost: bench\r\n\r\n', silent: '', half: 'GET / HTTP/1.1\r\nHos' }
/** More at once overflow the accept queue (511), and each then waits for a second SYN. */
const atOnce = 200

let open = 0
await Promise.all(Array.from({ length: Math.min(atOnce, count) }, async () => {
  while (open < count) {
    open++
    await openOne()
  }
}))
// What was only sent must have been read there.
await new Promise(resolve => setTimeout(resolve, 50))
console.log(JSON.stringify({ open }))
process.stdin.resume().on('end', () => process.exit())

function openOne () {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      if (words[kind] !== '') socket.write(words[kind])
      if (kind !== 'idle') resolve()
    })
    socket.on('error', reject)
    socket.once('data', resolve)
  })
}
