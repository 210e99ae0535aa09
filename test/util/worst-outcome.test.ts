import t from 'tap'
import { worstOutcome } from '../../lib/util/worst-outcome'

t.test('the outcome of several parts is the worst of theirs', async t => {
  t.equal(worstOutcome([]), 'clean')
  t.equal(worstOutcome(['closed', 'clean']), 'clean')
  t.equal(worstOutcome(['closed', 'forced']), 'forced')
  t.equal(worstOutcome(['forced', 'failed']), 'failed')
  t.equal(worstOutcome(['abandoned', 'closed']), 'failed')
})
