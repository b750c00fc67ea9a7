/**
 * Work that is done once however many ask for its result. It goes on for as long as one of them waits, and those
 * that somebody waits for come before those that are done ahead of time.
 */
import PQueue from 'p-queue'
import { HearthError } from '../../../core/errors.ts'

export interface SharedWork<T> extends AsyncDisposable {
  /**
   * Waits for the work of this name, and starts it with `run` unless it is under way.
   * @throws HearthError `cancelled` for the caller's own signal, `exhausted` when too much waits; what `run` throws.
   */
  join(
    name: string,
    run: (signal: AbortSignal) => Promise<T>,
    options: { isAhead: boolean; signal: AbortSignal },
  ): Promise<T>
}

/** Far more than one build needs. */
const waitingMax = 10_000

interface Work<T> {
  readonly result: Promise<T>
  readonly stop: AbortController
  callers: number
  hurry(): void
}

/** @param options.aheadMax of the `turnsMax` that may run at once, how many may be ahead of time. */
export function createSharedWork<T>(options: {
  turnsMax: number
  aheadMax: number
}): SharedWork<T> {
  const turns = new PQueue({ concurrency: options.turnsMax })
  const turnsAhead = new PQueue({ concurrency: options.aheadMax })
  const works = new Map<string, Work<T>>()
  const endings = new Set<Promise<unknown>>()
  let isClosed = false

  function start(name: string, run: (signal: AbortSignal) => Promise<T>, isAhead: boolean) {
    const stop = new AbortController()
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    let isTaken = false
    let isHurried = false
    const work: Work<T> = {
      result: promise,
      stop,
      callers: 0,
      hurry() {
        if (isHurried || isTaken) return
        isHurried = true
        void turns.add(take, { priority: 1 })
      },
    }
    /** In both queues, if it was hurried after it had to wait: the first turn counts. */
    async function take(): Promise<void> {
      if (isTaken) return
      isTaken = true
      try {
        if (stop.signal.aborted) throw cancelled(stop.signal)
        resolve(await run(stop.signal))
      } catch (error) {
        reject(error)
      } finally {
        forget(name, work)
      }
    }
    if (isAhead) {
      void turnsAhead.add(async () => {
        if (!isHurried) await turns.add(take, { priority: 0 })
      })
    }
    works.set(name, work)
    endings.add(promise)
    promise.catch(() => {}).finally(() => endings.delete(promise)) // Its callers see it.
    return work
  }

  /** Nobody joins it any more. */
  function forget(name: string, work: Work<T>): void {
    if (works.get(name) === work) works.delete(name)
  }

  return {
    async join(name, run, { isAhead, signal }) {
      if (isClosed || signal.aborted) throw cancelled(signal)
      if (works.size >= waitingMax && !works.has(name)) {
        throw new HearthError('exhausted', `${waitingMax} blobs wait to be fetched already`)
      }
      const work = works.get(name) ?? start(name, run, isAhead)
      if (!isAhead) work.hurry()
      work.callers += 1
      try {
        return await unlessAborted(work.result, signal)
      } finally {
        work.callers -= 1
        if (work.callers === 0) {
          work.stop.abort()
          forget(name, work)
        }
      }
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      for (const work of works.values()) work.stop.abort()
      await Promise.allSettled(endings)
    },
  }
}

async function unlessAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(cancelled(signal))
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([result, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function cancelled(signal: AbortSignal): HearthError {
  return new HearthError('cancelled', 'fetching a blob was cancelled', { cause: signal.reason })
}
