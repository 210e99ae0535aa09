/** The rule that puts a request into a class. */
import t from 'tap'
import {
  addRequests, classify, describe, lostClasses, mayRetry, noRequests, requestClasses, total, type Attempt, type Ending, type RequestClass
} from '../../../lib/cli/drill/classes'

const answer = (status: number, retryAfter = false): Ending => ({ kind: 'answer', status, retryAfter })
const refused: Ending = { kind: 'refused' }
const fin: Ending = { kind: 'closed', began: false, unread: false }
const finBeforeRequest: Ending = { kind: 'closed', began: false, unread: true }
const finWithin: Ending = { kind: 'closed', began: true, unread: false }
const rst: Ending = { kind: 'reset', began: false }
const rstWithin: Ending = { kind: 'reset', began: true }

const of = (ending: Ending, more: Partial<Attempt> = {}): RequestClass =>
  classify({ ending, reused: false, afterSignal: true, accepted: null, retry: null, ...more }, 1_000)

t.test('answers', async t => {
  for (const status of [200, 204, 404, 500]) t.equal(of(answer(status)), 'answered')
  t.equal(of(answer(503, true)), 'rejected')
  t.equal(of(answer(503)), 'rejectedWithoutRetryAfter')
  t.equal(of(refused), 'refused')
})

t.test('a request that the server read and did not answer is lost, also if a retry is answered', async t => {
  for (const reused of [true, false]) t.equal(of(fin, { reused, retry: answer(200) }), 'resetBefore')
  t.notOk(mayRetry(fin))
})

t.test('an answer without its end is lost', async t => {
  t.equal(of(finWithin), 'truncated')
  t.equal(of({ kind: 'invalid' }), 'truncated')
  t.equal(of(rstWithin), 'resetAfter')
  for (const ending of [finWithin, rstWithin]) t.notOk(mayRetry(ending))
})

t.test('a reset on a reused connection is counted apart if one retry is answered', async t => {
  for (const ending of [rst, finBeforeRequest]) {
    t.ok(mayRetry(ending))
    for (const afterSignal of [true, false]) {
      t.equal(of(ending, { reused: true, afterSignal, retry: answer(200) }), 'retried')
      t.equal(of(ending, { reused: true, afterSignal, retry: answer(503, true) }), 'retried')
      t.equal(of(ending, { reused: true, afterSignal, retry: answer(503) }), 'rejectedWithoutRetryAfter')
      for (const retry of [refused, rst, fin, finWithin]) t.equal(of(ending, { reused: true, afterSignal, retry }), 'resetBefore')
    }
  }
})

t.test('a reset of a new connection is counted apart if the listener is closed and the connection was not accepted', async t => {
  for (const accepted of [false, null]) t.equal(of(rst, { accepted, retry: refused }), 'acceptQueue')
  t.equal(of(rst, { accepted: true, retry: refused }), 'resetBefore')
  t.equal(of(rst, { accepted: false, retry: answer(200) }), 'resetBefore', 'the listener is open')
  t.equal(of(rst, { accepted: false, retry: refused, afterSignal: false }), 'resetBefore')
  t.equal(of(finBeforeRequest, { accepted: true, retry: refused }), 'acceptQueue', 'the request met a closed connection')
  t.equal(of(finBeforeRequest, { retry: answer(200) }), 'retried')
})

t.test('a request without an end is hung if it was silent for the bound', async t => {
  t.equal(of({ kind: 'pending', silentMs: 1_000 }), 'hung')
  t.equal(of({ kind: 'pending', silentMs: 999 }), 'unfinished')
})

t.test('counts', async t => {
  const some = { ...noRequests(), answered: 2, hung: 1, truncated: 3 }
  t.equal(total(some), 6)
  t.equal(total(some, lostClasses), 4)
  t.equal(total(addRequests([some, some])), 12)
  t.strictSame(Object.keys(some).sort(), [...requestClasses].sort())
})

t.test('a description of what the client saw', async t => {
  t.equal(describe({ ending: finBeforeRequest, reused: true, accepted: null, retry: refused }), 'reused connection: FIN, RST; retry: refused')
  t.equal(describe({ ending: rst, reused: false, accepted: false, retry: answer(200) }), 'new connection, not accepted: RST; retry: status 200')
  t.equal(describe({ ending: finWithin, reused: false, accepted: true, retry: null }), 'new connection, accepted: FIN within the answer')
  t.equal(describe({ ending: { kind: 'pending', silentMs: 12.3 }, reused: false, accepted: null, retry: null }), 'new connection: no byte for 12 ms')
  t.equal(describe({ ending: { kind: 'invalid' }, reused: false, accepted: null, retry: null }), 'new connection: no valid HTTP')
})
