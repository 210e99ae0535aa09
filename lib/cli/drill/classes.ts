/**
 * The classes of requests, and the rule that puts a request into one of them.
 *
 * TCP shows whether a server has read a request. A server that reads it and closes sends FIN. A server that closes
 * before it has read the request sends RST, or FIN and then RST.
 */

/** Every class, in the order of all outputs. Each request is in one class. */
export const requestClasses = [
  'answered', 'rejected', 'rejectedWithoutRetryAfter', 'refused', 'retried', 'acceptQueue', 'unfinished',
  'resetBefore', 'resetAfter', 'truncated', 'hung'
] as const

/** The class of a request. */
export type RequestClass = typeof requestClasses[number]

/** The classes of lost requests. */
export const lostClasses: readonly RequestClass[] = ['resetBefore', 'resetAfter', 'truncated', 'hung']

/** Each class in words. */
export const classLabels: Readonly<Record<RequestClass, string>> = {
  answered: 'answered',
  rejected: '503 with Retry-After',
  rejectedWithoutRetryAfter: '503 without Retry-After',
  refused: 'connection refused, never sent',
  retried: 'reset between two requests, answered by one retry',
  acceptQueue: 'reset in the accept queue of the closing listener',
  unfinished: 'sent shortly before the end, not judged',
  resetBefore: 'reset before the answer began',
  resetAfter: 'reset after the answer began',
  truncated: 'truncated answer',
  hung: 'no answer (hung)'
}

/** A number for each class. */
export type RequestCounts = Record<RequestClass, number>

/** Returns counts of zero. */
export function noRequests (): RequestCounts {
  return Object.fromEntries(requestClasses.map(name => [name, 0])) as RequestCounts
}

/** Adds counts. */
export function addRequests (all: readonly RequestCounts[]): RequestCounts {
  const sum = noRequests()
  for (const counts of all) for (const name of requestClasses) sum[name] += counts[name]
  return sum
}

/** Returns the number of requests in some classes. @param classes default: all */
export function total (counts: RequestCounts, classes: readonly RequestClass[] = requestClasses): number {
  return classes.reduce((sum, name) => sum + counts[name], 0)
}

/** How an exchange of one request and its answer ended. */
export type Ending =
  /** The answer is complete. */
  | { readonly kind: 'answer', readonly status: number, readonly retryAfter: boolean }
  /** The connection was not accepted: ECONNREFUSED. */
  | { readonly kind: 'refused' }
  /** The server closed the connection with FIN. `unread`: RST followed, because the request had not been read. */
  | { readonly kind: 'closed', readonly began: boolean, readonly unread: boolean }
  /** The server reset the connection with RST. */
  | { readonly kind: 'reset', readonly began: boolean }
  /** The bytes are no HTTP/1 answer. */
  | { readonly kind: 'invalid' }
  /** The exchange did not end. `silentMs`: milliseconds since its last byte, or since the request was sent. */
  | { readonly kind: 'pending', readonly silentMs: number }

/** What is known about a request. */
export interface Attempt {
  /** How it ended. */
  readonly ending: Ending
  /** Whether the connection carried an answer before. */
  readonly reused: boolean
  /** Whether the request ended after the signal. */
  readonly afterSignal: boolean
  /** Whether the server was seen to have accepted the connection; `null` if unknown. */
  readonly accepted: boolean | null
  /** How the one retry on a new connection ended; `null` without a retry. */
  readonly retry: Ending | null
}

/** Returns whether the server closed the connection before it read the request, as far as the client can see. */
export function mayRetry (ending: Ending): boolean {
  return (ending.kind === 'reset' && !ending.began) || (ending.kind === 'closed' && !ending.began && ending.unread)
}

/** Returns the class of a request. @param hungMs silence that counts as hung, in milliseconds */
export function classify ({ ending, reused, afterSignal, accepted, retry }: Attempt, hungMs: number): RequestClass {
  switch (ending.kind) {
    case 'answer': return classOfAnswer(ending)
    case 'refused': return 'refused'
    case 'invalid': return 'truncated'
    case 'pending': return ending.silentMs >= hungMs ? 'hung' : 'unfinished'
    case 'closed':
      if (ending.began) return 'truncated'
      break
    case 'reset':
      if (ending.began) return 'resetAfter'
  }
  if (!mayRetry(ending) || retry === null) return 'resetBefore'
  if (retry.kind === 'answer' && (reused || ending.kind === 'closed')) {
    return classOfAnswer(retry) === 'rejectedWithoutRetryAfter' ? 'rejectedWithoutRetryAfter' : 'retried'
  }
  // The listener is closed, and the reset came to a new connection.
  if (retry.kind === 'refused' && !reused && afterSignal && (ending.kind === 'closed' || accepted !== true)) {
    return 'acceptQueue'
  }
  return 'resetBefore'
}

function classOfAnswer ({ status, retryAfter }: Extract<Ending, { kind: 'answer' }>): RequestClass {
  if (status !== 503) return 'answered'
  return retryAfter ? 'rejected' : 'rejectedWithoutRetryAfter'
}

/** Describes what the client saw, such as `reused connection: RST; retry: refused`. */
export function describe (
  { ending, reused, accepted, retry }: Pick<Attempt, 'ending' | 'reused' | 'accepted' | 'retry'>
): string {
  const connection = reused ? 'reused connection' : `new connection${accepted === null ? '' : accepted ? ', accepted' : ', not accepted'}`
  return `${connection}: ${wordsOf(ending)}${retry === null ? '' : `; retry: ${wordsOf(retry)}`}`
}

function wordsOf (ending: Ending): string {
  switch (ending.kind) {
    case 'answer': return `status ${ending.status}`
    case 'closed': return `${ending.unread ? 'FIN, RST' : 'FIN'}${ending.began ? ' within the answer' : ''}`
    case 'reset': return `RST${ending.began ? ' within the answer' : ''}`
    case 'pending': return `no byte for ${Math.round(ending.silentMs)} ms`
    case 'invalid': return 'no valid HTTP'
    case 'refused': return 'refused'
  }
}
