/**
 * Sources that have been at fault rest for a while: twice as long each time, until they deliver again. What goes
 * wrong while one rests belongs to the same incident: many fetches may have been under way.
 */
import type { FaultReason } from './index.ts'

export interface SetAside {
  isAside(source: string): boolean
  /** It rests after its first incident, which was no lie: where nobody else is left, it may be asked all the same. */
  isForgivable(source: string): boolean
  /** @returns for how long, in milliseconds; 0 when this fault is none to rest for. */
  atFault(source: string, reason: FaultReason): number
  delivered(source: string): void
}

interface Entry {
  /** Without a delivery in between. */
  incidents: number
  untilMs: number
  hasLied: boolean
}

/** An old advert or a full queue says nothing about the source itself. */
const harmless: readonly FaultReason[] = ['absent', 'refused', 'set aside']
const asideMsMax = 10 * 60_000
/** Many more than there are peers: a bound against names that never come back. */
const entriesMax = 10_000

export function createSetAside(options: { firstMs: number; clock: () => number }): SetAside {
  const { firstMs, clock } = options
  const entries = new Map<string, Entry>()

  function put(source: string, entry: Entry): void {
    entries.delete(source)
    entries.set(source, entry)
    const [oldest] = entries.keys()
    if (entries.size > entriesMax && oldest !== undefined) entries.delete(oldest)
  }

  return {
    isAside: (source) => (entries.get(source)?.untilMs ?? 0) > clock(),
    isForgivable(source) {
      const entry = entries.get(source)
      return entry !== undefined && entry.incidents <= 1 && !entry.hasLied
    },
    atFault(source, reason) {
      if (harmless.includes(reason)) return 0
      const nowMs = clock()
      const before = entries.get(source)
      const hasLied = reason === 'wrong bytes' || (before?.hasLied ?? false)
      if (before !== undefined && before.untilMs > nowMs) {
        put(source, { ...before, hasLied })
        return before.untilMs - nowMs
      }
      // Everybody is slow once.
      if (reason === 'slow' && before === undefined) {
        put(source, { incidents: 0, untilMs: 0, hasLied })
        return 0
      }
      const incidents = (before?.incidents ?? 0) + 1
      const forMs = Math.min(asideMsMax, firstMs * 2 ** (incidents - 1))
      put(source, { incidents, untilMs: nowMs + forMs, hasLied })
      return forMs
    },
    delivered: (source) => void entries.delete(source),
  }
}
