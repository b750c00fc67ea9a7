/**
 * One scope's fragments in memory, their union, and the record that is served from it, made ahead of the
 * build that will ask for it.
 */
import type { Digest } from '../../../core/digest.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import { emptyGraph, type Graph, hasResult } from './graph.ts'
import { mergeGraphs, relabelled } from './merge.ts'
import { makeServedRecord, type ServedRecord } from './serve-record.ts'

/**
 * A fragment beyond that number goes, oldest first. The bound is seldom met: a daemon's next export of the
 * same build holds what the last one held, and makes it superfluous. Two hundred distinct builds in one
 * scope are more than fit into one record of 1 MiB anyway.
 */
export const fragmentsMax = 200

export interface KeptFragment {
  readonly digest: Digest
  readonly sequence: number
  readonly graph: Graph
}

export interface ScopeRecord {
  /** Sequence by fragment. */
  readonly fragments: ReadonlyMap<Digest, number>
  readonly latest: number
  /** Puts back what was kept before, and gives nothing up. */
  restore(kept: readonly KeptFragment[]): void
  /**
   * Adds a fragment, or moves one that is there to the front.
   * @returns the fragments that nothing depends on any more.
   */
  add(fragment: KeptFragment): Digest[]
  /** Every blob that could be part of the served record. */
  blobs(): Iterable<Digest>
  /** Undefined until `refresh`, and after each `add`. */
  readonly served: ServedRecord | undefined
  refresh(held: ReadonlyMap<Digest, BlobInfo>): ServedRecord
}

export function createScopeRecord(): ScopeRecord {
  const graphs = new Map<Digest, Graph>()
  const fragments = new Map<Digest, number>()
  let union = emptyGraph
  let latest = 0
  let served: ServedRecord | undefined

  function superfluous(): Digest[] {
    const oldestFirst = [...fragments].sort(([, a], [, b]) => a - b)
    const gone = oldestFirst.filter(([digest, sequence]) => {
      return isSuperseded(graphs.get(digest) ?? emptyGraph, sequence, union)
    })
    const tooMany = oldestFirst.length - gone.length - fragmentsMax
    const rest = oldestFirst.filter((each) => !gone.includes(each))
    return [...gone, ...rest.slice(0, Math.max(tooMany, 0))].map(([digest]) => digest)
  }

  function join({ digest, graph, sequence }: KeptFragment): Graph {
    const labelled = relabelled(graph, sequence)
    graphs.set(digest, labelled)
    fragments.set(digest, sequence)
    latest = Math.max(latest, sequence)
    served = undefined
    return labelled
  }

  return {
    fragments,
    get latest() {
      return latest
    },
    restore(kept) {
      for (const fragment of kept) join(fragment)
      union = mergeGraphs(...graphs.values())
    },
    add(fragment) {
      union = mergeGraphs(union, join(fragment))
      const gone = superfluous()
      if (gone.length === 0) return gone
      for (const each of gone) {
        graphs.delete(each)
        fragments.delete(each)
      }
      union = mergeGraphs(...graphs.values())
      return gone
    },
    blobs: () => union.descriptors.keys(),
    get served() {
      return served
    },
    refresh(held) {
      served = makeServedRecord(union, held)
      return served
    },
  }
}

/**
 * Whether later fragments give a result for every record that this one gives a result for. Its own results
 * would then be served only if the later ones were lost, and what is older is lost first.
 */
function isSuperseded(graph: Graph, sequence: number, union: Graph): boolean {
  for (const record of graph.records.values()) {
    if (!hasResult(record)) continue
    const results = union.records.get(record.key)?.results.values() ?? []
    if (!Array.from(results).some((result) => result.sequence > sequence)) return false
  }
  return true
}
