/**
 * BuildKit's cache config (`application/vnd.buildkit.cacheconfig.v0`), read into a graph and written from
 * one. The format: cache/remotecache/v1/types/{doc,spec}.go of BuildKit; what it refuses: v1/parse.go.
 *
 * Numbers are Go's: one that is absent is zero. BuildKit leaves out only `parent`, and older ones more.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { type Digest, isDigest } from '../../../core/digest.ts'
import {
  blobsOf,
  type Chain,
  compareText,
  type Descriptor,
  type Graph,
  type GraphRecord,
  type Input,
  makeChain,
  normalizeInputs,
  type Result,
  recordKey,
} from './graph.ts'
import { noRecord } from './manifest.ts'

const index = z.int().nullish()
const listOf = <T>(shape: z.ZodType<T>) => z.array(shape).nullish()

export const configShape = z.looseObject({
  layers: listOf(
    z.looseObject({
      blob: z.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
      parent: index,
    }),
  ),
  records: listOf(
    z.looseObject({
      digest: z.string().min(1).max(255),
      layers: listOf(z.looseObject({ layer: index })),
      chains: listOf(z.looseObject({ layers: listOf(z.int()) })),
      inputs: listOf(listOf(z.looseObject({ link: index, selector: z.string().nullish() }))),
    }),
  ),
})

export type CacheConfig = z.infer<typeof configShape>
type ConfigRecord = NonNullable<CacheConfig['records']>[number]
type ConfigLayer = NonNullable<CacheConfig['layers']>[number]

/** `parent` of a lowest layer. */
const noParent = -1

/**
 * @param descriptors of the layers that can be had. As in BuildKit, a result with a layer that is not among
 *   them is left out, and the rest of the record stays.
 * @throws HearthError `invalid-input` for what BuildKit refuses as a whole: an input without alternatives, a
 *   loop, an index out of range.
 */
export function parseConfig(
  config: CacheConfig,
  descriptors: ReadonlyMap<Digest, Descriptor>,
  sequence: number,
): Graph {
  const read = createChainReader(config.layers ?? [], descriptors)
  const keys = new Map<number, string>()
  const records = new Map<string, GraphRecord>()
  const used = new Map<Digest, { descriptor: Descriptor; sequence: number }>()
  const source = config.records ?? []

  for (const position of topologicalOrder(source)) {
    const record = itemAt(source, position, 'record')
    const results = new Map<string, Result>()
    for (const chain of resultsOf(record, read)) {
      results.set(chain.key, { chain, sequence, lineage: '' })
      for (const blob of blobsOf(chain)) {
        const descriptor = descriptors.get(blob)
        if (descriptor !== undefined) used.set(blob, { descriptor, sequence })
      }
    }
    const inputs: Input[][] = (record.inputs ?? []).map((alternatives) =>
      (alternatives ?? []).map(({ link, selector }) => ({
        record: keys.get(link ?? 0) ?? '',
        selector: selector ?? '',
      })),
    )
    const node = makeRecord(record.digest, inputs, results, sequence, records)
    // Two positions of a config can hold the same record.
    const twin = records.get(node.key)
    records.set(
      node.key,
      twin === undefined ? node : { ...node, results: new Map([...twin.results, ...results]) },
    )
    keys.set(position, node.key)
  }
  return { records, descriptors: used }
}

function makeRecord(
  digest: string,
  inputs: Input[][],
  results: ReadonlyMap<string, Result>,
  sequence: number,
  records: ReadonlyMap<string, GraphRecord>,
): GraphRecord {
  // Records that BuildKit itself never exports, and whose import would leave holes (v1/chains.go: Add).
  if (digest.startsWith('random:')) throw noRecord('a record with a random digest')
  const normal = normalizeInputs(inputs)
  const depth = normal.flat().reduce((deepest, { record }) => {
    return Math.max(deepest, (records.get(record)?.depth ?? 0) + 1)
  }, 0)
  return { key: recordKey(digest, normal), digest, inputs: normal, depth, sequence, results }
}

/** Positions of records, inputs first. Counts instead of descending: a chain of steps can be long. */
function topologicalOrder(records: readonly ConfigRecord[]): number[] {
  const dependents = new Map<number, number[]>()
  const waiting = records.map((record, position) => {
    const links = new Set<number>()
    for (const alternatives of record.inputs ?? []) {
      if (!alternatives?.length)
        throw noRecord(`record ${position} has an input without alternatives`)
      for (const { link } of alternatives) links.add(link ?? 0)
    }
    for (const link of links) {
      itemAt(records, link, 'record')
      dependents.set(link, [...(dependents.get(link) ?? []), position])
    }
    return links.size
  })
  const ready = [...waiting.keys()].filter((position) => waiting[position] === 0)
  // The list grows while it is walked.
  for (const position of ready) {
    for (const dependent of dependents.get(position) ?? []) {
      const left = itemAt(waiting, dependent, 'record') - 1
      waiting[dependent] = left
      if (left === 0) ready.push(dependent)
    }
  }
  if (ready.length < records.length) throw noRecord('its records form a loop')
  return ready
}

interface ChainReader {
  /** The layer at this position and all below it. Undefined when one of them is not to be had. */
  ending(position: number): Chain | undefined
  /** Exactly these layers, in this order. */
  listed(positions: readonly number[]): Chain | undefined
}

function createChainReader(
  layers: readonly ConfigLayer[],
  descriptors: ReadonlyMap<Digest, Descriptor>,
): ChainReader {
  const known = new Map<number, Chain | undefined>()
  const layerAt = (position: number) => itemAt(layers, position, 'layer')
  const parentOf = (position: number) => layerAt(position).parent ?? 0
  return {
    ending(last) {
      const path = new Set<number>()
      for (let each = last; each !== noParent && !known.has(each); each = parentOf(each)) {
        if (path.has(each)) throw noRecord('its layers form a loop')
        path.add(each)
      }
      for (const position of [...path].reverse()) {
        const { blob } = layerAt(position)
        const parent = parentOf(position)
        const below = known.get(parent)
        const whole = descriptors.has(blob) && (parent === noParent || below !== undefined)
        known.set(position, whole ? makeChain(blob, below) : undefined)
      }
      return known.get(last)
    },
    listed(positions) {
      let chain: Chain | undefined
      for (const position of positions) {
        const { blob } = layerAt(position)
        if (!descriptors.has(blob)) return undefined
        chain = makeChain(blob, chain)
      }
      return chain
    },
  }
}

/** A result says which layers it is by the last of them, or by a list of all (`chains`). */
function resultsOf(record: ConfigRecord, read: ChainReader): Chain[] {
  const byLast = (record.layers ?? []).map(({ layer }) => {
    if ((layer ?? 0) < 0) throw noRecord(`there is no layer ${layer}`)
    return read.ending(layer ?? 0)
  })
  const byList = (record.chains ?? []).map(({ layers }) => read.listed(layers ?? []))
  return [...byLast, ...byList].filter((chain) => chain !== undefined)
}

function itemAt<T>(list: readonly T[], position: number, what: string): T {
  const item = list[position]
  if (item === undefined) throw noRecord(`there is no ${what} ${position}`)
  return item
}

/** How each record is written: which of its results, and when they claim to have been made. */
export type ChosenResults = (record: GraphRecord) => readonly { chain: Chain; createdAt?: string }[]

/**
 * @param records in the order in which they are to be written, closed under inputs.
 * @returns the config, and the blobs of its layers, each once.
 */
export function writeConfig(
  records: readonly GraphRecord[],
  chosen: ChosenResults,
): { config: CacheConfig; blobs: Digest[] } {
  const chains = new Map<string, Chain>()
  for (const { chain } of records.flatMap(chosen)) {
    for (let each: Chain | undefined = chain; each !== undefined; each = each.parent) {
      chains.set(each.key, each)
    }
  }
  // Parents first, and otherwise an order that only the content decides.
  const layers = [...chains.values()].sort(
    (a, b) => a.length - b.length || compareText(a.key, b.key),
  )
  const layerOf = new Map(layers.map((chain, position) => [chain.key, position]))
  const positionOf = new Map(records.map((record, position) => [record.key, position]))
  const config = {
    layers: layers.map(({ blob, parent }) => ({
      blob,
      parent: parent === undefined ? noParent : positionIn(layerOf, parent.key),
    })),
    records: records.map((record) => ({
      ...writeResults(chosen(record), layerOf),
      digest: record.digest,
      ...(record.inputs.length === 0 ? {} : { inputs: writeInputs(record, positionOf) }),
    })),
  }
  return { config, blobs: [...new Set(layers.map(({ blob }) => blob))] }
}

function writeResults(
  results: ReturnType<ChosenResults>,
  layerOf: ReadonlyMap<string, number>,
): Pick<ConfigRecord, 'layers'> {
  if (results.length === 0) return {}
  return {
    layers: results.map(({ chain, createdAt }) => ({
      layer: positionIn(layerOf, chain.key),
      ...(createdAt === undefined ? {} : { createdAt }),
    })),
  }
}

function writeInputs(record: GraphRecord, positionOf: ReadonlyMap<string, number>) {
  return record.inputs.map((alternatives) =>
    alternatives.map((input) => ({
      ...(input.selector === '' ? {} : { selector: input.selector }),
      link: positionIn(positionOf, input.record),
    })),
  )
}

function positionIn(positions: ReadonlyMap<string, number>, key: string): number {
  const position = positions.get(key)
  assert(position !== undefined, 'a record is written without all of its inputs')
  return position
}
