import t from 'tap'
import { createConditions } from '../../lib/util/conditions'
import { settled } from '../helpers/time'

/** Writes down the names of the conditions that are fulfilled, in their order. */
function recorder (): { readonly names: string[], record (name: string): () => void } {
  const names: string[] = []
  return { names, record: name => () => { names.push(name) } }
}

t.test('a condition that holds already resolves without a check', async t => {
  await createConditions().until(() => true)
  t.pass('resolved')
})

t.test('a condition resolves at the first check at which it holds, and no earlier', async t => {
  const conditions = createConditions()
  const { names, record } = recorder()
  let count = 2
  void conditions.until(() => count === 0).then(record('zero'))
  count = 1
  conditions.check()
  count = 0
  await settled()
  t.same(names, [], 'the change alone resolves nothing')
  conditions.check()
  await settled()
  t.same(names, ['zero'])
})

t.test('a check resolves the conditions that hold, in the order in which they were added, and keeps the others', async t => {
  const conditions = createConditions()
  const { names, record } = recorder()
  let count = 2
  void conditions.until(() => count <= 1).then(record('at most one'))
  void conditions.until(() => count === 0).then(record('zero'))
  void conditions.until(() => count < 2).then(record('less than two'))
  count = 1
  conditions.check()
  await settled()
  t.same(names, ['at most one', 'less than two'])
  count = 0
  conditions.check()
  await settled()
  t.same(names, ['at most one', 'less than two', 'zero'])
})

t.test('a condition is not evaluated again once it has resolved', async t => {
  const conditions = createConditions()
  let isOver = false
  let evaluated = 0
  const over = conditions.until(() => { evaluated++; return isOver })
  isOver = true
  conditions.check()
  await over
  conditions.check()
  t.equal(evaluated, 2, 'once when it was added, once at the check')
})
