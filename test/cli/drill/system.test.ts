/** What the drill reads from the system: processes and their listening sockets. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import t from 'tap'
import { isAccepted } from '../../../lib/cli/drill/accepted'
import { isLoopback, reachable } from '../../../lib/cli/drill/hosts'
import { findListeners, formatListener, parseLsof, parseTcpTable, readTcpTable, uniqueListeners } from '../../../lib/cli/drill/listeners'
import { commandOf, hasProc, isRunning, listProcesses, parsePs, parseStat } from '../../../lib/cli/drill/process-table'
import { treeVariable, watchTree } from '../../../lib/cli/drill/process-tree'
import { eventually } from '../../helpers/client'

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 777 1 0000000000000000 20 4 30 10 -1
`
const table6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1 0
   1: 00000000000000000000000000000000:0BB9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 2 1 0
   2: 0000000000000000FFFF00000100007F:0BB9 0000000000000000FFFF00000100007F:D433 01 00000000:00000000 00:00000000 00000000  0 0 3 1 0
`

t.test("Linux's table of sockets", async t => {
  const [listener, queued, accepted] = parseTcpTable(table)
  t.strictSame(listener, { local: { host: '127.0.0.1', port: 8080 }, remotePort: 0, listens: true, inode: '12345' })
  t.match(queued, { remotePort: 54321, listens: false, inode: '0' })
  t.equal(accepted!.inode, '777')
  t.strictSame(parseTcpTable(table6).map(({ local }) => formatListener(local)), ['[::1]:3000', '[::]:3001', '127.0.0.1:3001'])
  t.strictSame(parseTcpTable(''), [])
})

t.test('a connection in the accept queue has no inode', async t => {
  const entries = parseTcpTable(table)
  t.equal(isAccepted(entries, 8080, 54321), false)
  t.equal(isAccepted(entries, 8080, 54322), true)
  t.equal(isAccepted(entries, 8080, 1), null)
})

t.test('the accept queue of a real listener', { skip: !hasProc && 'needs /proc' }, async t => {
  // The child listens and its event loop is blocked, so that it accepts nothing.
  const script = "const s = require('net').createServer().listen(0, '127.0.0.1', () => { process.stdout.write(String(s.address().port)); setTimeout(() => { for (;;); }, 10) })"
  const child = spawn(process.execPath, ['-e', script], { env: { PATH: process.env.PATH }, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const port = Number(String((await once(child.stdout, 'data'))[0]))
  await new Promise(resolve => setTimeout(resolve, 100))
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  t.equal(isAccepted(await readTcpTable(), port, socket.localPort!), false)
  socket.destroy()
})

t.test("lsof's output", async t => {
  const listeners = parseLsof('p12\nf19\ntIPv4\nn127.0.0.1:3000\nf20\ntIPv6\nn[::1]:3000\nf21\ntIPv6\nn*:3001\nf22\ntIPv4\nn*:3002\nnlocalhost\n')
  t.strictSame(listeners.map(formatListener), ['127.0.0.1:3000', '[::1]:3000', '[::]:3001', '0.0.0.0:3002'])
  t.strictSame(parseLsof(''), [])
  t.strictSame(uniqueListeners([...listeners, ...listeners].reverse()).map(({ port }) => port), [3000, 3000, 3001, 3002])
})

t.test('the listening sockets of this process', async t => {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const { port } = server.address() as net.AddressInfo
  t.ok((await findListeners([process.pid])).some(listener => listener.host === '127.0.0.1' && listener.port === port))
  t.strictSame(await findListeners([]), [])
})

t.test("the output of ps, and Linux's stat", async t => {
  t.strictSame(parsePs('    1     0     1 Ss   Fri Nov 27 02:00:00 2026\n   17     1    17 Z    Fri Nov 27 02:00:01 2026\n'), [
    { pid: 1, parent: 0, group: 1, started: 'Fri Nov 27 02:00:00 2026' }
  ])
  const stat = (state: string): string => `42 (a) b (c)) ${state} 7 8 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 123456 1000 200`
  t.strictSame(parseStat(stat('S')), { pid: 42, parent: 7, group: 9, started: '123456' })
  t.equal(parseStat(stat('Z')), null, 'an ended process')
})

t.test('this process in the table', async t => {
  t.equal(listProcesses().get(process.pid)!.parent, process.ppid)
  t.ok(isRunning(process.pid))
  t.notOk(isRunning(2 ** 22 + 1))
  t.match(commandOf(process.pid), /node/)
  t.equal(commandOf(2 ** 22 + 1), '')
})

t.test('the tree has grandchildren whose parent has ended, and children in another session', async t => {
  const child = spawn('sh', ['-c', 'sleep 60 & (sleep 61 &) ; echo started; wait'], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
  const tree = watchTree(child.pid!, true)
  t.teardown(() => {
    tree.kill()
    tree.stop()
  })
  await once(child.stdout, 'data')
  // The shell between them runs for a moment.
  const commands = (): string[] => tree.descendants().map(commandOf).sort()
  await eventually(() => commands().join() === 'sleep 60,sleep 61', commands)
  process.kill(child.pid!, 'SIGKILL')
  await once(child, 'exit')
  const left = tree.descendants()
  t.equal(left.length, 2, 'they are known when their parent has ended')
  tree.kill()
  while (left.some(isRunning)) await new Promise(resolve => setTimeout(resolve, 10))
  t.strictSame(tree.descendants(), [])
})

t.test('the tree has a daemon, which has left the session before it was seen', { skip: !hasProc && 'needs /proc' }, async t => {
  // The root ends at once, and its child leads a session of its own.
  const script = "const { spawn } = require('child_process'); spawn('sleep', ['62'], { detached: true, stdio: 'ignore' }).once('spawn', () => process.exit())"
  const env = { PATH: process.env.PATH, [treeVariable]: 'mark of the test' }
  const child = spawn(process.execPath, ['-e', script], { detached: true, stdio: 'ignore', env })
  await once(child, 'exit')
  const tree = watchTree(child.pid!, true, 'mark of the test')
  const other = watchTree(child.pid!, true, 'another mark')
  t.teardown(() => {
    tree.kill()
    tree.stop()
    other.stop()
  })
  t.strictSame(tree.descendants().map(commandOf), ['sleep 62'])
  t.strictSame(other.descendants(), [])
})

t.test('loopback, and the addresses that reach a listener', async t => {
  for (const host of ['127.0.0.1', '127.8.8.8', '::1', 'localhost', 'LOCALHOST']) t.ok(isLoopback(host), host)
  for (const host of ['10.0.0.1', '0.0.0.0', '::', 'example.com', 'localhost.example.com', '127.0.0.1.example.com']) t.notOk(isLoopback(host), host)
  t.strictSame(reachable({ host: '::', port: 1 }).map(({ host }) => host), ['127.0.0.1', '::1'])
  t.strictSame(reachable({ host: '0.0.0.0', port: 1 }).map(({ host }) => host), ['127.0.0.1'])
})
