/** `npm run simulate -- --seeds 100000 [--from 1]`: plays shutdowns, and prints the first seed whose rules are broken. */
import { parseArgs } from 'node:util'
import { simulate } from './simulate'

async function main (): Promise<void> {
  const { values } = parseArgs({ options: { seeds: { type: 'string', default: '10000' }, from: { type: 'string', default: '1' } } })
  const [from, count] = [Number(values.from), Number(values.seeds)]
  const outcomes: Record<string, number> = {}
  const began = Date.now()
  for (let seed = from; seed < from + count; seed++) {
    try {
      const { outcome } = await simulate(seed)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    } catch (error) {
      console.error(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`)
      console.error(`Repeat it: npm run simulate -- --from ${seed} --seeds 1`)
      process.exit(1)
    }
  }
  console.log(`${count} shutdowns from seed ${from} in ${Math.round((Date.now() - began) / 1_000)} s, no rule broken: ${JSON.stringify(outcomes)}`)
}

void main()
