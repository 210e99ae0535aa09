/** Processes of code blocks: a server that wants port 3000 gets a free one. */
import { join } from 'node:path'
import type { Child } from './children'

/** The environment of such a process, and of its children. */
export const preload = { NODE_OPTIONS: `--require ${join(__dirname, 'fixtures/listen.cjs')}` }

/** Waits until the process or a child of it listens. @returns its port, and the pid of the process that listens */
export function listening (child: Child): Promise<{ readonly port: number, readonly pid: number }> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.process.stderr!.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const found = /^listens (\{.*\})$/m.exec(text)?.[1]
      if (found !== undefined) resolve(JSON.parse(found))
    })
    void child.ended.then(({ code, stderr }) => reject(new Error(`It ended with code ${code} before it listened: ${child.lines.join('\n')}\n${stderr}`)))
  })
}
