/**
 * The union of graphs. Associative, commutative and idempotent, because each part is: sets are joined by
 * identity, and of two labels the later one stays. Nothing looks at a clock.
 */
import type { Digest } from '../../../core/digest.ts'
import {
  compareLabels,
  compareText,
  type Graph,
  type GraphRecord,
  type Label,
  type LabelledDescriptor,
} from './graph.ts'

export function mergeGraphs(...graphs: readonly Graph[]): Graph {
  return {
    records: joined(
      graphs.map(({ records }) => records),
      mergeRecords,
    ),
    descriptors: joined(
      graphs.map(({ descriptors }) => descriptors),
      laterDescriptor,
    ),
  }
}

/** The same graph as if all of it had been said by the fragment of this label. */
export function relabelled(graph: Graph, label: Label): Graph {
  return {
    records: mapValues(graph.records, (record) => relabelledRecord(record, label)),
    descriptors: mapValues(graph.descriptors, (each) => ({ ...each, sequence: label.sequence })),
  }
}

export function relabelledRecord(record: GraphRecord, label: Label): GraphRecord {
  const { sequence } = label
  const results = mapValues(record.results, ({ chain }) => ({ chain, ...label }))
  return { ...record, sequence, results }
}

/** Both have the same key, so digest, inputs and depth are the same too. */
export function mergeRecords(a: GraphRecord, b: GraphRecord): GraphRecord {
  return {
    ...a,
    sequence: Math.max(a.sequence, b.sequence),
    results: joined([a.results, b.results], (one, other) =>
      compareLabels(one, other) >= 0 ? one : other,
    ),
  }
}

/** BuildKit knows one descriptor per blob. Of the same age, the smaller text decides. */
export function laterDescriptor(a: LabelledDescriptor, b: LabelledDescriptor): LabelledDescriptor {
  if (a.sequence !== b.sequence) return a.sequence > b.sequence ? a : b
  return compareText(JSON.stringify(a.descriptor), JSON.stringify(b.descriptor)) <= 0 ? a : b
}

function joined<K extends string | Digest, V>(
  maps: readonly ReadonlyMap<K, V>[],
  merge: (one: V, other: V) => V,
): ReadonlyMap<K, V> {
  const result = new Map(maps[0])
  for (const map of maps.slice(1)) {
    for (const [key, value] of map) {
      const present = result.get(key)
      result.set(key, present === undefined ? value : merge(present, value))
    }
  }
  return result
}

function mapValues<K, V>(map: ReadonlyMap<K, V>, change: (value: V) => V): ReadonlyMap<K, V> {
  return new Map(Array.from(map, ([key, value]) => [key, change(value)]))
}
