/**
 * Long work in short transactions. LMDB's are synchronous here, so each ends after a few ms and the event loop
 * gets a turn before the next.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { RootDatabase } from 'lmdb'
import { sliceMs } from '../limits.ts'

const itemsBetweenLooks = 32

/** @param last runs in the transaction of the last slice. */
export async function inSlices<T>(
  root: RootDatabase,
  items: readonly T[],
  each: (item: T) => void,
  last: () => void = () => {},
): Promise<void> {
  let done = 0
  do {
    root.transactionSync(() => {
      const untilMs = performance.now() + sliceMs
      while (done < items.length && performance.now() < untilMs) {
        const end = Math.min(items.length, done + itemsBetweenLooks)
        for (const item of items.slice(done, end)) each(item)
        done = end
      }
      if (done === items.length) last()
    })
    if (done < items.length) await nextTurn()
  } while (done < items.length)
}
