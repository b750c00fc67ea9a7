/**
 * Long work in small steps: a generator that yields wherever it may be interrupted. Whoever needs the outcome at
 * once runs it to the end; everybody else gives the event loop its turns in between.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

export type Steps<T> = Generator<undefined, T, undefined>

/** Builds are served by the same event loop; they notice what takes much longer. */
const sliceMs = 8

export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
  }
}

export async function inSlices<T>(steps: Steps<T>): Promise<T> {
  for (;;) {
    const untilMs = performance.now() + sliceMs
    do {
      const { done, value } = steps.next()
      if (done === true) return value
    } while (performance.now() < untilMs)
    await nextTurn()
  }
}
