/** At the end of a shutdown, every line of the log is written, in order. */
import { createWriteStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pino, { type Logger } from 'pino'
import type { FastifyBaseLogger } from 'fastify'
import t, { type Test } from 'tap'
import { flushLog } from '../../lib/exporters/flush-log'

const logs: Record<string, (file: string, t: Test) => Logger> = {
  "pino's default destination, which writes in the background": file => pino(pino.destination({ dest: file, sync: false })),
  'a destination that collects lines': file => pino(pino.destination({ dest: file, sync: false, minLength: 4_096 })),
  'a destination that writes directly': file => pino(pino.destination({ dest: file, sync: true })),
  'two destinations': file => pino({}, pino.multistream([{ stream: pino.destination({ dest: file, sync: false }) }, { stream: pino.destination({ dest: `${file}.2`, sync: false }) }])),
  'a child logger': file => pino(pino.destination({ dest: file, sync: false })).child({ name: 'child' }),
  'a stream of Node' (file, t) {
    const stream = createWriteStream(file)
    t.teardown(() => { stream.end() })
    return pino(stream)
  }
}

for (const [kind, create] of Object.entries(logs)) {
  t.test(`every line is written when the flush is over: ${kind}`, async t => {
    const file = join(t.testdir(), 'log')
    const log = create(file, t)
    const padding = 'x'.repeat(1_000)
    const expected = Array.from({ length: 500 }, (_, i) => `line ${i}`)
    for (const line of expected) log.info({ padding }, line)
    await flushLog(log as FastifyBaseLogger)
    const lines = readFileSync(file, 'utf8').trim().split('\n').map(line => (JSON.parse(line) as { msg: string }).msg)
    t.strictSame(lines, expected)
  })
}
