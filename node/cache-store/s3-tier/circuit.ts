/**
 * Leaves the object store alone for a while once it is in trouble, longer each time, and then tries again:
 *
 *   closed ──trouble──▶ resting ──time is over──▶ trying ──answered──▶ closed
 *                          ▲──────────trouble────────┘
 *
 * Reading and writing have one each, because credentials that may read and not write are good for reading.
 * A line in the log says when it begins and what to do, and one when it is over; not each failure.
 */
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { isOutage } from './failures.ts'

export interface Circuit extends Disposable {
  /** False while resting. */
  readonly isClosed: boolean
  /** Why it rests, in one line; undefined when the last attempt succeeded. */
  readonly trouble: string | undefined
  /** @throws HearthError what the work throws; `unavailable` at once while resting. */
  run<T>(work: () => Promise<T>): Promise<T>
  /** Trouble that somebody else has seen. */
  report(error: HearthError): void
  /** Resolves when it does not rest. */
  whenClosed(options: { signal: AbortSignal }): Promise<void>
}

export interface CircuitOptions {
  /** "reading from s3://bucket": for the log. */
  what: string
  restMs: number
  restMsMax: number
  /**
   * Asked when a rest is over, so that nobody else has to find out; it throws when the trouble is not over.
   * Absent: whoever comes next finds out.
   */
  probe?: () => Promise<void>
}

export function createCircuit(deps: { log: Logger }, options: CircuitOptions): Circuit {
  const { log } = deps
  let trouble: HearthError | undefined
  let isResting = false
  let restMs = options.restMs
  let timer: NodeJS.Timeout | undefined
  let waiting = Promise.withResolvers<void>()
  let isOver = false

  function open(error: HearthError): void {
    if (isResting || isOver) return
    if (trouble === undefined || trouble.message !== error.message) {
      log.warn({ error: error.message, hint: error.hint }, `trouble while ${options.what}`)
    }
    trouble = error
    isResting = true
    waiting = Promise.withResolvers<void>()
    // Not all nodes at the same moment.
    timer = setTimeout(() => void tryAgain(), restMs * (0.5 + Math.random())).unref()
    restMs = Math.min(options.restMsMax, restMs * 2)
  }

  async function tryAgain(): Promise<void> {
    try {
      await options.probe?.()
    } catch (error) {
      endRest()
      open(toHearthError(error))
      return
    }
    endRest()
    if (options.probe !== undefined) recovered()
  }

  function endRest(): void {
    isResting = false
    waiting.resolve()
  }

  function recovered(): void {
    if (trouble !== undefined) log.info(`no more trouble while ${options.what}`)
    trouble = undefined
    restMs = options.restMs
  }

  return {
    get isClosed() {
      return !isResting
    },
    get trouble() {
      return trouble && describeError(trouble)
    },
    async run(work) {
      if (isResting && trouble !== undefined) {
        throw new HearthError(
          'unavailable',
          `the object store is left alone for a while: ${trouble.message}`,
          {
            ...(trouble.hint === undefined ? {} : { hint: trouble.hint }),
            cause: trouble,
          },
        )
      }
      try {
        const result = await work()
        if (!isResting) recovered()
        return result
      } catch (error) {
        if (error instanceof HearthError && isOutage(error)) open(error)
        throw error
      }
    },
    report: (error) => open(error),
    async whenClosed({ signal }) {
      const over = Promise.withResolvers<void>()
      const abort = () => over.reject(new HearthError('cancelled', 'the wait was cancelled'))
      signal.addEventListener('abort', abort, { once: true })
      if (signal.aborted) abort()
      try {
        while (isResting) await Promise.race([waiting.promise, over.promise])
        if (signal.aborted) await over.promise
      } finally {
        signal.removeEventListener('abort', abort)
        over.promise.catch(() => {})
      }
    },
    [Symbol.dispose]() {
      isOver = true
      clearTimeout(timer)
    },
  }
}
