/** Sources that have been at fault rest for a while: twice as long each time, until they deliver again. */
import type { FaultReason } from './index.ts'

export interface SetAside {
  isAside(source: string): boolean
  /** @returns for how long, in milliseconds; 0 when this fault is none to rest for. */
  atFault(source: string, reason: FaultReason): number
  delivered(source: string): void
}

/** An old advert or a full queue says nothing about the source itself. */
const harmless: readonly FaultReason[] = ['absent', 'refused', 'set aside']
const asideMsMax = 10 * 60_000
/** Many more than there are peers: a bound against names that never come back. */
const entriesMax = 10_000

export function createSetAside(options: { firstMs: number; clock: () => number }): SetAside {
  const entries = new Map<string, { faults: number; untilMs: number }>()
  return {
    isAside: (source) => (entries.get(source)?.untilMs ?? 0) > options.clock(),
    atFault(source, reason) {
      if (harmless.includes(reason)) return 0
      const faults = (entries.get(source)?.faults ?? 0) + 1
      const forMs = Math.min(asideMsMax, options.firstMs * 2 ** (faults - 1))
      entries.delete(source)
      entries.set(source, { faults, untilMs: options.clock() + forMs })
      const [oldest] = entries.keys()
      if (entries.size > entriesMax && oldest !== undefined) entries.delete(oldest)
      return forMs
    },
    delivered: (source) => void entries.delete(source),
  }
}
