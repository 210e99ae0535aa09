/** The parser of answers, with the bytes in every division. */
import t from 'tap'
import { receiveAnswer, type Answer } from '../../../lib/cli/drill/answer'

/** Receives bytes in parts of this length. */
function receive (text: string, { size = text.length, method = 'GET' } = {}): Answer {
  const answer = receiveAnswer(method)
  const bytes = Buffer.from(text, 'latin1')
  for (let at = 0; at < bytes.length; at += size) answer.push(bytes.subarray(at, at + size))
  return answer
}

const complete: ReadonlyArray<readonly [name: string, text: string, body: string, method?: string]> = [
  ['Content-Length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
  ['an empty body', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
  ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n', 'hello'],
  ['no chunk', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', ''],
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n', ''],
  ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n', ''],
  ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n', '', 'HEAD'],
  ['100 Continue before it', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 'ok'],
  ['no reason phrase', 'HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok', 'ok']
]

for (const [name, text, body, method = 'GET'] of complete) {
  t.test(`${name}: complete with its last byte, and not before`, async t => {
    for (let size = 1; size <= text.length; size++) {
      const answer = receive(text, { size, method })
      t.equal(answer.state, 'complete')
      t.equal(answer.body, body)
      t.equal(answer.rest.length, 0)
    }
    for (let length = 1; length < text.length; length++) {
      const answer = receive(text.slice(0, length), { method })
      answer.end()
      t.equal(answer.state, 'begun', text.slice(0, length))
    }
  })
}

t.test('an answer without a length ends with its connection', async t => {
  const answer = receive('HTTP/1.0 200 OK\r\n\r\nhello', { size: 3 })
  t.equal(answer.state, 'begun')
  answer.end()
  t.equal(answer.state, 'complete')
  t.equal(answer.body, 'hello')
})

t.test('nothing was received', async t => {
  const answer = receiveAnswer('GET')
  answer.end()
  t.equal(answer.state, 'waiting')
  t.equal(answer.head, null)
})

t.test('bytes behind the end are kept apart', async t => {
  t.equal(receive('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP').rest.toString(), 'HTTP')
  const upgraded = receive('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nab')
  t.equal(upgraded.state, 'upgraded')
  t.equal(upgraded.rest.toString(), 'ab')
})

t.test('keep-alive by version and header', async t => {
  const keepAlive = (first: string, ...headers: string[]): boolean =>
    receive([first, 'Content-Length: 0', ...headers, '', ''].join('\r\n')).head!.keepAlive
  t.equal(keepAlive('HTTP/1.1 200 OK'), true)
  t.equal(keepAlive('HTTP/1.1 200 OK', 'Connection: Close'), false)
  t.equal(keepAlive('HTTP/1.1 200 OK', 'Connection: upgrade, close'), false)
  t.equal(keepAlive('HTTP/1.0 200 OK'), false)
  t.equal(keepAlive('HTTP/1.0 200 OK', 'Connection: keep-alive'), true)
})

t.test('bytes that are no HTTP/1 answer', async t => {
  for (const text of [
    'SSH-2.0-OpenSSH\r\n\r\n', 'HTTP/2 200\r\n\r\n', 'HTTP/1.1 200 OK\r\nno colon\r\n\r\n', `HTTP/1.1 200 OK\r\n${'x'.repeat(70_000)}`,
    'HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'
  ]) t.equal(receive(text).state, 'invalid', text.slice(0, 40))
})
