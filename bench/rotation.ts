/**
 * The order in which the contestants of one run go: another one first each time, so that none always meets
 * the machine as its predecessor left it.
 */
export function rotated<T>(contestants: readonly T[], run: number): T[] {
  if (contestants.length === 0) return []
  const first = run % contestants.length
  return [...contestants.slice(first), ...contestants.slice(0, first)]
}
