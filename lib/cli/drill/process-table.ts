/**
 * Lists the processes of this machine: from /proc on Linux, from `ps` elsewhere. Processes that have ended are left
 * out, also if their parent has not yet read their exit code.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** A running process. */
export interface ProcessEntry {
  readonly pid: number
  readonly parent: number
  /** Its session on Linux, its process group elsewhere. A process that the drill starts leads one of its own. */
  readonly group: number
  /** When it started, as text. A pid with another start is another process. */
  readonly started: string
}

/** Whether this system has Linux's /proc. */
export const hasProc = process.platform === 'linux' && existsSync('/proc/self/stat')

/** Lists the running processes by pid. */
export function listProcesses (): Map<number, ProcessEntry> {
  const entries = hasProc
    ? fromProc()
    : parsePs(execFileSync('ps', ['-A', '-o', 'pid=,ppid=,pgid=,stat=,lstart='], {
      encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' }
    }))
  return new Map(entries.map(entry => [entry.pid, entry]))
}

/** Returns whether a process runs. It may belong to another user. */
export function isRunning (pid: number): boolean {
  if (hasProc) return readEntry(String(pid)) !== null
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return listProcesses().has(pid)
}

/** Returns the command line of a process, at most 200 characters; empty if it is gone. */
export function commandOf (pid: number): string {
  try {
    const text = hasProc
      ? readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      : execFileSync('ps', ['-p', String(pid), '-o', 'command='], {
        encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore']
      })
    return text.replace(/\p{Cc}/gu, ' ').trim().slice(0, 200)
  } catch {
    return ''
  }
}

/** Returns whether the environment of a process has a variable with this value. Only on Linux. */
export function hasVariable (pid: number, name: string, value: string): boolean {
  if (!hasProc) return false
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`${name}=${value}`)
  } catch {
    return false // It has ended, or belongs to another user.
  }
}

function fromProc (): ProcessEntry[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name)).flatMap(pid => readEntry(pid) ?? [])
}

function readEntry (pid: string): ProcessEntry | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return null
  }
}

/** Parses /proc/PID/stat (proc_pid_stat(5)). @returns `null` for a process that has ended */
export function parseStat (text: string): ProcessEntry | null {
  // The name is in parentheses, and may contain spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, parent, , session] = fields
  if (state === 'Z' || state === 'X' || fields.length < 20) return null
  return { pid: parseInt(text, 10), parent: Number(parent), group: Number(session), started: fields[19]! }
}

/** Parses the output of `ps -o pid=,ppid=,pgid=,stat=,lstart=`. */
export function parsePs (text: string): ProcessEntry[] {
  return text.split('\n').flatMap(line => {
    const [, pid, parent, group, state, started] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.+?)\s*$/.exec(line) ?? []
    if (pid === undefined || state!.startsWith('Z')) return []
    return [{ pid: Number(pid), parent: Number(parent), group: Number(group), started: started! }]
  })
}
