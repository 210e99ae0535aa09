/**
 * `npm run simulate -- --seeds 100000 [--from 1] [--workers 2]`: plays shutdowns, and prints the first seed that breaks a
 * rule. Many seeds are played in parts, each in its own process. The output names the last seed up to which all are
 * played, so that an interrupted run can continue with `--from`.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { simulate } from './simulate'

type Outcomes = Record<string, number>

/** Seeds of one process. */
const partSize = 20_000

async function main (): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '10000' },
      from: { type: 'string', default: '1' },
      workers: { type: 'string', default: '1' }
    }
  })
  const [from, count, workers] = [Number(values.from), Number(values.seeds), Number(values.workers)]
  const began = Date.now()
  const outcomes: Outcomes = {}
  const isOnePart = count <= partSize
  const add = (some: Outcomes): void => {
    for (const [name, times] of Object.entries(some)) outcomes[name] = (outcomes[name] ?? 0) + times
  }
  if (isOnePart) add(await playPart(from, count))
  else await playParts(from, count, workers, add)
  // In a process of a part, the parent prints the result.
  if (isOnePart && process.send !== undefined) {
    process.send(outcomes)
    return
  }
  const seconds = Math.round((Date.now() - began) / 1_000)
  console.log(`${count} shutdowns from seed ${from} in ${seconds} s, no rule broken: ${JSON.stringify(outcomes)}`)
}

async function playPart (from: number, count: number): Promise<Outcomes> {
  const outcomes: Outcomes = {}
  // Most of the errors are simulated, and their stacks take a third of the time.
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  for (let seed = from; seed < from + count; seed++) {
    try {
      const { outcome } = await simulate(seed)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    } catch {
      Error.stackTraceLimit = stackTraceLimit
      const error: unknown = await simulate(seed).catch((error: unknown) => error)
      console.error(`seed ${seed}: ${error instanceof Error ? error.stack : 'the rule holds when the seed is played again'}`)
      console.error(`Repeat it: npm run simulate -- --from ${seed} --seeds 1`)
      process.exit(1)
    }
  }
  return outcomes
}

/** Plays the parts, `workers` at a time. */
async function playParts (
  from: number, count: number, workers: number, onPart: (outcomes: Outcomes) => void
): Promise<void> {
  const end = from + count
  const open = new Set<number>()
  let next = from
  let isBroken = false

  async function work (): Promise<void> {
    while (next < end && !isBroken) {
      const first = next
      next = Math.min(end, first + partSize)
      open.add(first)
      const child = fork(__filename, ['--from', String(first), '--seeds', String(next - first)])
      child.once('message', outcomes => onPart(outcomes as Outcomes))
      const [code] = await once(child, 'exit')
      open.delete(first)
      if (code !== 0) isBroken = true
      else console.log(`seeds ${from} to ${Math.min(next, ...open) - 1}: no rule broken`)
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
  if (isBroken) process.exit(1)
}

void main()
