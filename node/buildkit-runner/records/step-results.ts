/**
 * Which record of a graph is which step of a build: the bridge between BuildKit's names and step keys (plan/).
 *
 * An operation's record has a digest that follows from the operation, and inputs that are the records of its inputs,
 * or something known by its content. So steps are found from the inputs up. It errs where a build has the same
 * operation twice on inputs that are told apart by content alone: both steps then get one of the two records.
 */
import type { Digest } from '../../../core/digest.ts'
import type { KeyedOperation } from '../../../plan/index.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import { blobsOf, compareText, type Graph, type GraphRecord, hasResult } from './graph.ts'

/** Record keys by step key. */
export type StepLabels = ReadonlyMap<Digest, string>

/**
 * @param graph what the build itself has exported: of other builds the same step on other content may be in it.
 * @param operations inputs before what uses them.
 */
export function labelSteps(graph: Graph, operations: readonly KeyedOperation[]): StepLabels {
  const byDigest = Map.groupBy(graph.records.values(), ({ digest }) => digest)
  const found = new Map<string, GraphRecord[]>()
  const known = new Map(
    operations.map((operation) => [operation.vertexDigest as string, operation]),
  )
  const labels = new Map<Digest, string>()

  function recordsOf(vertexDigest: string, output: number): GraphRecord[] | undefined {
    const place = `${vertexDigest} ${output}`
    const before = found.get(place)
    if (before !== undefined) return before
    const operation = known.get(vertexDigest)
    const digest = operation?.recordDigest(output)
    // A source: what it is called depends on what it holds.
    if (operation === undefined || digest === undefined) return undefined
    const inputs = operation.inputs.map((input) => recordsOf(input.vertexDigest, input.output))
    const records = (byDigest.get(digest) ?? []).filter((record) => standsOn(record, inputs, graph))
    found.set(place, records)
    return records
  }

  for (const { vertexDigest, stepKey } of operations) {
    if (stepKey === undefined) continue
    const candidates = (recordsOf(vertexDigest, 0) ?? []).filter(hasResult)
    const [best] = candidates.sort((a, b) => b.depth - a.depth || compareText(a.key, b.key))
    if (best !== undefined) labels.set(stepKey, best.key)
  }
  return labels
}

/** @param inputs the records that each input may be; undefined for what can be anything. */
function standsOn(
  record: GraphRecord,
  inputs: readonly (readonly GraphRecord[] | undefined)[],
  graph: Graph,
): boolean {
  return record.inputs.every((alternatives, index) => {
    const expected = inputs[index]
    if (expected === undefined || expected.length === 0) return true
    const keys = new Set(expected.map(({ key }) => key))
    return alternatives.some(({ record: key }) => keys.has(key) || isContent(graph, key))
  })
}

/** Known by what it holds, not by how it was made. */
function isContent(graph: Graph, key: string): boolean {
  return graph.records.get(key)?.inputs.length === 0
}

/** A step whose key has changed often while its files stayed the same needs no more than the latest of them. */
const labelsPerRecordMax = 4

/**
 * The labels of a new fragment: its own, and what earlier ones say of the records that it has too, because it may
 * take their place.
 * @param earlier the latest last.
 */
export function withEarlierLabels(
  graph: Graph,
  own: StepLabels,
  earlier: readonly Graph[],
): StepLabels {
  const labels = new Map(own)
  const perRecord = new Map<string, number>()
  for (const key of own.values()) perRecord.set(key, (perRecord.get(key) ?? 0) + 1)
  for (const { steps } of earlier.toReversed()) {
    for (const [stepKey, recordKey] of steps ?? []) {
      const record = graph.records.get(recordKey)
      const count = perRecord.get(recordKey) ?? 0
      if (labels.has(stepKey) || record === undefined || !hasResult(record)) continue
      if (count >= labelsPerRecordMax) continue
      labels.set(stepKey, recordKey)
      perRecord.set(recordKey, count + 1)
    }
  }
  return new Map([...labels].sort(([a], [b]) => compareText(a, b)))
}

/** By step key: the layers of its result, lowest first. @param graphs the latest last. */
export function layersOfSteps(graphs: readonly Graph[]): Map<Digest, readonly BlobInfo[]> {
  const all = new Map<Digest, readonly BlobInfo[]>()
  for (const graph of graphs) {
    for (const [stepKey, layers] of layersIn(graph)) all.set(stepKey, layers)
  }
  return all
}

/** Graphs do not change, and are asked about again with each fragment that comes. */
const readBefore = new WeakMap<Graph, ReadonlyMap<Digest, readonly BlobInfo[]>>()

function layersIn(graph: Graph): ReadonlyMap<Digest, readonly BlobInfo[]> {
  const before = readBefore.get(graph)
  if (before !== undefined) return before
  const layers = new Map<Digest, readonly BlobInfo[]>()
  for (const [stepKey, recordKey] of graph.steps ?? []) {
    const [result] = graph.records.get(recordKey)?.results.values() ?? []
    if (result === undefined) continue
    layers.set(
      stepKey,
      blobsOf(result.chain).map((digest) => {
        return { digest, size: graph.descriptors.get(digest)?.descriptor.size ?? 0 }
      }),
    )
  }
  readBefore.set(graph, layers)
  return layers
}
