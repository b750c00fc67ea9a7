/** A clock for tests: time passes when the test says so. */
import type { Clock } from './clock.ts'

export interface FakeClock extends Clock {
  /** Lets time pass, calling what falls due on the way, in order. */
  advance(byMs: number): void
  /** Calls that are still to come. */
  readonly pending: number
}

export function createFakeClock(): FakeClock {
  let nowMs = 1_000_000
  const timers = new Set<{ atMs: number; call: () => void }>()
  return {
    nowMs: () => nowMs,
    after(delayMs, call) {
      const timer = { atMs: nowMs + delayMs, call }
      timers.add(timer)
      return { [Symbol.dispose]: () => timers.delete(timer) }
    },
    advance(byMs) {
      const untilMs = nowMs + byMs
      for (;;) {
        const [next] = [...timers].sort((left, right) => left.atMs - right.atMs)
        if (next === undefined || next.atMs > untilMs) break
        nowMs = next.atMs
        timers.delete(next)
        next.call()
      }
      nowMs = untilMs
    },
    get pending() {
      return timers.size
    },
  }
}
