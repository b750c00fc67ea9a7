const firstMs = 100
const longestMs = 5_000

/** Before the nth try again, from 1: doubling, and random so that many nodes do not come at once. */
export function backoffMs(failures: number): number {
  const mostMs = Math.min(longestMs, firstMs * 2 ** Math.min(failures, 10))
  return mostMs / 2 + (Math.random() * mostMs) / 2
}
