/** When a node would begin a build that comes now. */

/**
 * Milliseconds until a slot is free for one more.
 * @param remainingMs of each build that the node has or will have: first those that run, then those that
 *   queue, in order. One that has outlived its estimate counts as `overdueMs` more.
 */
export function queueTime(slots: number, remainingMs: readonly number[]): number {
  const free = Array.from({ length: Math.max(1, slots) }, () => 0)
  for (const build of remainingMs) {
    const first = earliest(free)
    free[first] = (free[first] ?? 0) + Math.max(overdueMs, build)
  }
  return free[earliest(free)] ?? 0
}

/** Nobody knows when it will end; not at once, or a node with a stuck build would draw everyone. */
const overdueMs = 2_000

function earliest(free: readonly number[]): number {
  return free.indexOf(Math.min(...free))
}
