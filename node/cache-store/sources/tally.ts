/** What came from where, and who was at fault. */
import type { SourceCounts } from './index.ts'

export interface Tally {
  brought(bytesBySource: ReadonlyMap<string, number>): void
  missed(): void
  fault(source: string): void
  counts(): SourceCounts
}

/** Many more than a mesh has members: a bound against names that never come back. */
const namesMax = 10_000

export function createTally(): Tally {
  const bytes = new Map<string, number>()
  const faults = new Map<string, number>()
  let brought = 0
  let missed = 0
  return {
    brought(bytesBySource) {
      brought += 1
      for (const [source, count] of bytesBySource) add(bytes, source, count)
    },
    missed() {
      missed += 1
    },
    fault: (source) => add(faults, source, 1),
    counts: () => ({ brought, missed, bytes: new Map(bytes), faults: new Map(faults) }),
  }
}

function add(sums: Map<string, number>, name: string, count: number): void {
  if (sums.size >= namesMax && !sums.has(name)) return
  sums.set(name, (sums.get(name) ?? 0) + count)
}
