/**
 * The object store's clock, as the `Date` of its answers tells it, to a second. Ages of objects are measured with it
 * alone, and URLs are signed by it: nodes' own clocks may be hours apart.
 */

export interface ServerClock {
  observe(date: string): void
  /** Ms since 1970; undefined before the first answer that said it. */
  nowMs(): number | undefined
}

export function createServerClock(): ServerClock {
  let known: { dateMs: number; atMs: number } | undefined
  return {
    observe(date) {
      const dateMs = Date.parse(date)
      if (Number.isFinite(dateMs)) known = { dateMs, atMs: performance.now() }
    },
    nowMs: () => known && known.dateMs + (performance.now() - known.atMs),
  }
}
