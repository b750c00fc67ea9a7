/**
 * How long to wait for a source before another one is asked for the same piece: twice the longest of its last waits,
 * near what was set. Waits that came to nothing count as well, and double: a limit that learns from successes alone
 * shrinks until hardly anything meets it (spegel, issue 1469).
 */

export interface Wait {
  readonly source: string
  /** From asking for a piece to its first byte. */
  readonly ms: number
}

export interface Patience {
  note(wait: Wait): void
  /** Undefined when nothing is known of the source. */
  limitMs(source: string): number | undefined
}

const waitsKept = 16
/** Of the limit that was set: a generous floor, and an end. */
const floorPart = 0.4
const ceilingPart = 4
/** Many more than there are peers: a bound against names that never come back. */
const sourcesMax = 10_000

export function createPatience(options: { hedgeMs: number }): Patience {
  const waits = new Map<string, number[]>()
  return {
    note({ source, ms }) {
      const known = [...(waits.get(source) ?? []), ms].slice(-waitsKept)
      waits.delete(source)
      waits.set(source, known)
      const [oldest] = waits.keys()
      if (waits.size > sourcesMax && oldest !== undefined) waits.delete(oldest)
    },
    limitMs(source) {
      const known = waits.get(source)
      if (known === undefined) return undefined
      const twiceMs = 2 * Math.max(...known)
      const floorMs = options.hedgeMs * floorPart
      return Math.min(Math.max(twiceMs, floorMs), options.hedgeMs * ceilingPart)
    },
  }
}
