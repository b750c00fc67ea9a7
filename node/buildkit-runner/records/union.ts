/**
 * The union of a scope's fragments, changed one fragment at a time and in small steps. It always says what
 * `mergeGraphs` would say of all that are in it, but for the fragment that is just being added or removed; also
 * then every record that it names is there.
 */
import type { Digest } from '../../../core/digest.ts'
import {
  emptyGraph,
  type Graph,
  type GraphRecord,
  inTopologicalOrder,
  type Label,
  type LabelledDescriptor,
} from './graph.ts'
import { laterDescriptor, mergeRecords, relabelledRecord } from './merge.ts'
import type { Steps } from './steps.ts'

export interface Union {
  readonly graph: Graph
  /** A fragment that is in it already gets the new label, which is later. */
  add(lineage: Digest, graph: Graph, sequence: number): Steps<void>
  remove(lineage: Digest): Steps<void>
}

/** @param options.recordsPerStep how much is done between two interruptions. */
export function createUnion({ recordsPerStep = 50 } = {}): Union {
  const parts = new Map<Digest, Graph>()
  const records = createJoined<string, GraphRecord>(mergeRecords)
  const descriptors = createJoined<Digest, LabelledDescriptor>(laterDescriptor)

  return {
    graph: { records: records.all, descriptors: descriptors.all },

    *add(lineage, graph, sequence) {
      const label: Label = { sequence, lineage }
      parts.set(lineage, graph)
      let count = 0
      for (const [blob, { descriptor }] of graph.descriptors) {
        descriptors.add(blob, lineage, { descriptor, sequence })
        count += 1
        if (count % recordsPerStep === 0) yield
      }
      for (const record of inTopologicalOrder(graph.records.values())) {
        records.add(record.key, lineage, relabelledRecord(record, label))
        count += 1
        if (count % recordsPerStep === 0) yield
      }
    },

    *remove(lineage) {
      const graph = parts.get(lineage) ?? emptyGraph
      parts.delete(lineage)
      let count = 0
      for (const { key } of inTopologicalOrder(graph.records.values()).reverse()) {
        records.remove(key, lineage)
        count += 1
        if (count % recordsPerStep === 0) yield
      }
      for (const blob of graph.descriptors.keys()) {
        descriptors.remove(blob, lineage)
        count += 1
        if (count % recordsPerStep === 0) yield
      }
    },
  }
}

/** What several say of one thing, joined, so that each can be taken out again. */
function createJoined<K, V>(merge: (one: V, other: V) => V) {
  const said = new Map<K, Map<Digest, V>>()
  const all = new Map<K, V>()
  return {
    all: all as ReadonlyMap<K, V>,
    add(key: K, by: Digest, value: V): void {
      const values = said.get(key)
      if (values === undefined) said.set(key, new Map([[by, value]]))
      else values.set(by, value)
      const joined = all.get(key)
      all.set(key, joined === undefined ? value : merge(joined, value))
    },
    remove(key: K, by: Digest): void {
      const values = said.get(key)
      if (values === undefined) return
      values.delete(by)
      const [first, ...others] = values.values()
      if (first === undefined) {
        said.delete(key)
        all.delete(key)
      } else all.set(key, others.reduce(merge, first))
    },
  }
}
