/** Clients of the service. They run in Node, so only the service depends on the runtime. */
import { spawn } from 'node:child_process'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
/** Longest time of a wait, in milliseconds. */
const longest = 12_000

export const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })

/** Waits for a promise. Throws an error that names `what` if it takes too long. */
export async function inTime (promise, what, ms = longest) {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not after ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Runs a command. @returns its lines, and a promise of its end */
export function run (command, env = {}) {
  const child = spawn(command[0], command.slice(1), {
    cwd: here,
    // In a test runner, the plugin listens to no signal.
    env: { ...process.env, TAP: '', NODE_TEST_CONTEXT: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const lines = []
  const waiting = new Set()
  let text = ''
  let stderr = ''
  let over = false
  const look = () => { for (const each of [...waiting]) each() }
  child.stdout.setEncoding('utf8').on('data', chunk => {
    text += chunk
    const parts = text.split('\n')
    text = parts.pop()
    lines.push(...parts)
    look()
  })
  child.stderr.setEncoding('utf8').on('data', chunk => { stderr += chunk })
  const started = performance.now()
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      over = true
      resolve({ code, signal, stderr, ms: performance.now() - started })
      look()
    })
  })
  return {
    lines,
    pid: child.pid,
    ended: () => inTime(ended, 'the process ends'),
    kill: signal => child.kill(signal),
    /** Ends the process, if it has not ended yet. */
    async stop () {
      if (!over) child.kill('SIGKILL')
      await ended.catch(() => {})
    },
    /** Waits for a line that begins with these words. @returns the rest of the line */
    said: words => inTime(new Promise((resolve, reject) => {
      const find = () => {
        const line = lines.find(each => each.startsWith(words))
        if (line === undefined && !over) return
        waiting.delete(find)
        if (line !== undefined) resolve(line.slice(words.length).trim())
        else reject(new Error(`the process ended without the line '${words}': ${stderr.trim().split('\n').slice(0, 3).join(' ')}`))
      }
      waiting.add(find)
      find()
    }), `the line '${words}'`)
  }
}

/** Starts the service in a runtime, and waits until it listens. */
export async function serve (runtime, service, file = 'service.mjs') {
  const child = run([...runtime, join(here, file)], { SERVICE: JSON.stringify(service) })
  try {
    child.port = Number(await child.said('port'))
  } catch (error) {
    await child.stop()
    throw error
  }
  child.report = async () => JSON.parse(await child.said('report'))
  return child
}

/** Sends a request with Node's client. If its connection fails, `status` is `null`, and `code` says why. */
export function request (port, path, { agent = false, method = 'GET', headers = {}, body, secure = false } = {}) {
  const client = secure ? https : http
  return inTime(new Promise(resolve => {
    const req = client.request({ host: '127.0.0.1', port, path, agent, method, headers, rejectUnauthorized: false }, res => {
      let text = ''
      res.setEncoding('utf8').on('data', chunk => { text += chunk })
      res.on('error', () => {})
      res.on('close', () => resolve({ status: res.statusCode, headers: res.headers, body: text, whole: res.complete }))
    })
    req.on('error', error => resolve({ status: null, headers: {}, body: '', whole: false, code: error.code }))
    if (typeof body === 'function') body(req)
    else req.end(body)
  }), `the answer of ${path}`)
}

/** Opens a plain connection and sends a text. @returns the socket, what it has received, and a promise of its end */
export async function connect (port, text = '') {
  const socket = net.connect(port, '127.0.0.1')
  const connection = { socket, received: '', error: undefined }
  socket.setEncoding('latin1').on('data', chunk => { connection.received += chunk })
  socket.on('error', error => { connection.error = error.code })
  const closed = new Promise(resolve => { socket.on('close', resolve) })
  connection.closed = () => inTime(closed, 'the connection ends')
  await new Promise((resolve, reject) => { socket.on('connect', resolve).on('error', reject) })
  if (text !== '') socket.write(text)
  return connection
}

/** Waits until a connection has received a text. */
export async function received (connection, text) {
  for (let waited = 0; !connection.received.includes(text); waited += 10) {
    if (waited > 5_000) throw new Error(`the text '${text.trim()}' does not arrive`)
    await sleep(10)
  }
}
