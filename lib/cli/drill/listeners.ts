/** Finds the listening sockets of processes: from /proc on Linux, from `lsof` elsewhere. */
import { execFile } from 'node:child_process'
import { readFile, readdir, readlink } from 'node:fs/promises'
import { hasProc } from './process-table'

/** A listening socket. */
export interface Listener {
  /** The IP address; `0.0.0.0` and `::` are all addresses. */
  readonly host: string
  readonly port: number
}

/** A TCP socket of /proc/net/tcp. */
export interface TcpEntry {
  readonly local: Listener
  readonly remotePort: number
  readonly listens: boolean
  /** 0 for a connection that the process has not accepted. */
  readonly inode: string
}

/** Lists the listening TCP sockets of processes, sorted by port. Processes that may not be looked into have none. */
export async function findListeners (pids: readonly number[]): Promise<Listener[]> {
  if (pids.length === 0) return []
  const found = hasProc ? await fromProc(pids) : await fromLsof(pids)
  return uniqueListeners(found)
}

/** Removes copies of a socket that several processes share, and sorts by port. */
export function uniqueListeners (listeners: readonly Listener[]): Listener[] {
  return [...new Map(listeners.map(each => [formatListener(each), each])).values()].sort((a, b) => a.port - b.port)
}

/** Formats a listener: `127.0.0.1:3000`, `[::1]:3000`. */
export function formatListener ({ host, port }: Listener): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

async function fromProc (pids: readonly number[]): Promise<Listener[]> {
  const all = await Promise.all(pids.map(async pid => {
    const [inodes, entries] = await Promise.all([socketInodes(pid), readTcpTable(pid)])
    return entries.filter(entry => entry.listens && inodes.has(entry.inode)).map(entry => entry.local)
  }))
  return all.flat()
}

async function socketInodes (pid: number): Promise<Set<string>> {
  const folder = `/proc/${pid}/fd`
  const files = await readdir(folder).catch(() => [])
  const links = await Promise.all(files.map(file => readlink(`${folder}/${file}`).catch(() => '')))
  return new Set(links.flatMap(link => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
}

/** Reads the TCP sockets in the network namespace of a process. */
export async function readTcpTable (pid: number | 'self' = 'self'): Promise<TcpEntry[]> {
  const texts = await Promise.all(
    ['tcp', 'tcp6'].map(name => readFile(`/proc/${pid}/net/${name}`, 'utf8').catch(() => ''))
  )
  return texts.flatMap(parseTcpTable)
}

/** Parses /proc/net/tcp and /proc/net/tcp6 (proc_pid_net(5)). */
export function parseTcpTable (text: string): TcpEntry[] {
  return text.split('\n').slice(1).flatMap(line => {
    const [, local = '', remote = '', state, , , , , , inode] = line.trim().split(/\s+/)
    if (inode === undefined) return []
    const [host = '', port = ''] = local.split(':')
    return [{
      local: { host: parseAddress(host), port: parseInt(port, 16) },
      remotePort: parseInt(remote.split(':')[1]!, 16),
      listens: state === '0A',
      inode
    }]
  })
}

/** Parses the hexadecimal address of /proc/net: words of 32 bits in the byte order of the machine. */
function parseAddress (hex: string): string {
  const bytes = hex.match(/.{8}/g)!.flatMap(word => [...Buffer.from(word, 'hex').reverse()])
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! * 256 + bytes[2 * i + 1]!).toString(16))
  const mapped = groups.slice(0, 6).join(':') === '0:0:0:0:0:ffff'
  // The form of URL, which shortens the address.
  return mapped ? bytes.slice(12).join('.') : new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

function fromLsof (pids: readonly number[]): Promise<Listener[]> {
  return new Promise(resolve => {
    // Exit code 1 also means that there is no such socket.
    execFile('lsof', ['-nP', '-a', '-iTCP', '-sTCP:LISTEN', '-p', pids.join(','), '-Ftn'], (_error, stdout) => {
      resolve(parseLsof(stdout))
    })
  })
}

/** Parses the output of `lsof -Ftn`: lines `n*:3000`, `n127.0.0.1:3000`, `n[::1]:3000`, and `tIPv6` before them. */
export function parseLsof (text: string): Listener[] {
  let all = '0.0.0.0'
  return text.split('\n').flatMap(line => {
    if (line.startsWith('t')) all = line === 'tIPv6' ? '::' : '0.0.0.0'
    const [, host, port] = /^n(\*|\[[0-9a-f:.]+\]|[0-9.]+):(\d+)$/.exec(line) ?? []
    return host === undefined ? [] : [{ host: host === '*' ? all : host.replace(/[[\]]/g, ''), port: Number(port) }]
  })
}
