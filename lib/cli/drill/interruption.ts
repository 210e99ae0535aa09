/** Ends a drill early: by a signal to the drill, or by an error in it. What the drill has started is killed. */
import { setMaxListeners } from 'node:events'
import { after } from '../../util/time'
import { CannotRunError } from './cannot-run'

/** Signals that end the drill. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** The early end of a drill. */
export interface Interruption {
  /** Aborts when the drill must end. */
  readonly signal: AbortSignal
  /**
   * Adds synchronous work for the early end, and for the exit of the drill.
   *
   * @returns a function that removes it
   */
  onEnd (work: () => void): () => void
  /** Waits for a promise. Rejects with the reason if the drill must end. */
  wait<T> (promise: Promise<T>): Promise<T>
  /** Waits for some milliseconds. Rejects with the reason if the drill must end. */
  pause (ms: number): Promise<void>
}

/** Runs `drill`, and ends it when a signal or an uncaught error comes. @throws CannotRunError if it was ended */
export async function interruptible<T> (drill: (interruption: Interruption) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const works = new Set<() => void>()
  const { signal } = controller
  const end = (reason: CannotRunError): void => {
    for (const work of works) work()
    controller.abort(reason)
  }
  const onSignal = (name: NodeJS.Signals): void => { end(new CannotRunError(`interrupted by ${name}`)) }
  const onError = (error: unknown): void => {
    end(new CannotRunError(`an error in the drill: ${error instanceof Error ? error.message : String(error)}`))
  }
  const onExit = (): void => { for (const work of works) work() }
  setMaxListeners(0, signal)
  const aborted = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  aborted.catch(() => {})
  for (const name of signals) process.on(name, onSignal)
  process.on('uncaughtException', onError).on('unhandledRejection', onError).on('exit', onExit)
  try {
    return await drill({
      signal,
      onEnd (work) {
        works.add(work)
        return () => { works.delete(work) }
      },
      wait: promise => Promise.race([promise, aborted]),
      pause: ms => new Promise((resolve, reject) => {
        const onAbort = (): void => {
          cancel()
          reject(signal.reason)
        }
        const cancel = after(ms, () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        })
        signal.addEventListener('abort', onAbort, { once: true })
        if (signal.aborted) onAbort()
      })
    })
  } finally {
    for (const name of signals) process.off(name, onSignal)
    process.off('uncaughtException', onError).off('unhandledRejection', onError).off('exit', onExit)
  }
}
