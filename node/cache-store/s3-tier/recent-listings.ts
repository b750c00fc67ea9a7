/** A scope's listing is good for a few seconds: builds that begin together ask once. */
import type { ListedFragment } from './listing.ts'

export interface RecentListings {
  of(folder: string): Promise<readonly ListedFragment[]>
  /** What is below a folder. */
  forget(folder: string): void
}

const goodMs = 3_000

export function createRecentListings(
  list: (folder: string) => Promise<readonly ListedFragment[]>,
): RecentListings {
  const recent = new Map<string, { listed: Promise<readonly ListedFragment[]>; untilMs: number }>()
  return {
    of(folder) {
      const nowMs = performance.now()
      for (const [key, { untilMs }] of recent) if (untilMs <= nowMs) recent.delete(key)
      const known = recent.get(folder)
      if (known !== undefined) return known.listed
      const listed = list(folder)
      recent.set(folder, { listed, untilMs: nowMs + goodMs })
      // What failed is asked for again at once; the circuit keeps that from being too often.
      listed.catch(() => recent.delete(folder))
      return listed
    },
    forget(folder) {
      for (const key of recent.keys()) if (key.startsWith(folder)) recent.delete(key)
    },
  }
}
