/**
 * The graph behind a cache record: which step with which inputs gave which layers.
 *
 * Identity is Merkle: a record is its digest and its exact sets of inputs, a chain is its blob and its
 * parent, so that records of independent daemons meet by content. Labels are sequence numbers of the scope's
 * fragments: which of two things was said knowing the other, and nothing about when.
 */
import { hash } from 'node:crypto'
import type { Digest } from '../../../core/digest.ts'

/** An OCI descriptor, as far as BuildKit's cache needs it. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly annotations?: Readonly<Record<string, string>>
}

/** Layers from the lowest to `blob`. Usable only whole. */
export interface Chain {
  readonly key: string
  readonly blob: Digest
  readonly parent: Chain | undefined
  /** Number of layers. */
  readonly length: number
}

/** One way to get an input: the result of another record, or the part of it that the selector names. */
export interface Input {
  readonly record: string
  readonly selector: string
}

export interface GraphRecord {
  readonly key: string
  readonly digest: string
  /** Alternatives for each input, none of them empty, sorted. */
  readonly inputs: readonly (readonly Input[])[]
  /** Longest way down to a record without inputs. */
  readonly depth: number
  readonly sequence: number
  readonly results: ReadonlyMap<string, Result>
}

export interface Result {
  readonly chain: Chain
  readonly sequence: number
  /** Of several fragments that give it, the latest: results of one lineage belong together. */
  readonly lineage: string
}

/** Under which a fragment joins a union. Builds that knew nothing of each other may have the same sequence. */
export interface Label {
  readonly sequence: number
  /** Its digest. */
  readonly lineage: string
}

/** Positive when `a` is the later one. The same on every node, and total. */
export function compareLabels(a: Label, b: Label): number {
  return a.sequence - b.sequence || compareText(a.lineage, b.lineage)
}

export interface LabelledDescriptor {
  readonly descriptor: Descriptor
  readonly sequence: number
}

/** Closed under inputs: every record that is named is there. */
export interface Graph {
  readonly records: ReadonlyMap<string, GraphRecord>
  /** Of every blob of every chain. */
  readonly descriptors: ReadonlyMap<Digest, LabelledDescriptor>
  /** In a fragment: record keys by step key (step-results.ts), as far as whoever built it knew. */
  readonly steps?: ReadonlyMap<Digest, string>
}

export const emptyGraph: Graph = { records: new Map(), descriptors: new Map() }

export function makeChain(blob: Digest, parent: Chain | undefined): Chain {
  const key = hash('sha256', `${parent?.key ?? ''} ${blob}`, 'base64')
  return { key, blob, parent, length: (parent?.length ?? 0) + 1 }
}

/** The blobs of a chain, lowest first. */
export function blobsOf(chain: Chain): Digest[] {
  const blobs: Digest[] = []
  for (let each: Chain | undefined = chain; each !== undefined; each = each.parent) {
    blobs.push(each.blob)
  }
  return blobs.reverse()
}

/** Sorts the alternatives and drops repeated ones, so that order and repetition do not change identity. */
export function normalizeInputs(inputs: readonly (readonly Input[])[]): Input[][] {
  return inputs.map((alternatives) => {
    const distinct = new Map(alternatives.map((each) => [`${each.record} ${each.selector}`, each]))
    return [...distinct].sort(([a], [b]) => compareText(a, b)).map(([, each]) => each)
  })
}

/** @param inputs as `normalizeInputs` gives them. */
export function recordKey(digest: string, inputs: readonly (readonly Input[])[]): string {
  const parts = inputs.map((alternatives) =>
    alternatives.map(({ record, selector }) => [record, selector]),
  )
  return hash('sha256', JSON.stringify([digest, parts]), 'base64')
}

/** By code unit: the same on every machine, whatever its locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Inputs before what depends on them, and otherwise an order that only the content decides. */
export function inTopologicalOrder(records: Iterable<GraphRecord>): GraphRecord[] {
  return [...records].sort((a, b) => a.depth - b.depth || compareText(a.key, b.key))
}

/**
 * The records that can ever be a hit: those of `has`, and what they take their inputs from.
 * @returns their keys.
 */
export function usefulRecords(
  records: ReadonlyMap<string, GraphRecord>,
  has: (record: GraphRecord) => boolean,
): Set<string> {
  const useful = new Set<string>()
  const left = [...records.values()].filter(has)
  for (let record = left.pop(); record !== undefined; record = left.pop()) {
    if (useful.has(record.key)) continue
    useful.add(record.key)
    for (const { record: key } of record.inputs.flat()) {
      const input = records.get(key)
      if (input !== undefined && !useful.has(key)) left.push(input)
    }
  }
  return useful
}

/** The part of a graph that can ever be a hit. */
export function usefulPart(graph: Graph, has: (record: GraphRecord) => boolean = hasResult): Graph {
  const useful = usefulRecords(graph.records, has)
  return {
    ...graph,
    records: new Map([...graph.records].filter(([key]) => useful.has(key))),
  }
}

export function hasResult(record: GraphRecord): boolean {
  return record.results.size > 0
}
