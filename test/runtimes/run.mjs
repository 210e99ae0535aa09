import { promises, check } from './promises.mjs'
const [, , filter, ...runtime] = process.argv
for (const [name, promise] of promises) {
  if (!name.includes(filter)) continue
  console.log(`${await check(promise, runtime)}  <- ${name}`)
}
process.exit()
