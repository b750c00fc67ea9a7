/**
 * The record that a build imports, made from a graph: one result for each step, only layers that can be
 * delivered, within BuildKit's limits, and older than anything that the daemon has made itself.
 */
import { type Digest, digestOf } from '../../../core/digest.ts'
import { recordBytesMax } from '../../../core/limits.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { GrantDocument } from '../registry/index.ts'
import {
  type Chain,
  compareText,
  type Descriptor,
  type Graph,
  type GraphRecord,
  usefulRecords,
} from './graph.ts'
import { recordTag } from './index.ts'
import { cacheConfigMediaType, writeCacheManifest } from './manifest.ts'
import { writeConfig } from './record.ts'

export interface ServedRecord {
  readonly documents: readonly GrantDocument[]
  readonly records: number
  /** The blobs it promises, each once. */
  readonly blobs: readonly Digest[]
}

/** The result that is served for a record. */
interface Choice {
  readonly record: GraphRecord
  readonly chain: Chain
  readonly sequence: number
  readonly bytes: number
}

/**
 * @param held what can be delivered.
 * @param options.bytesMax of config and manifest each. When the whole does not fit, what was seen last comes
 *   first, by sequence, and the rest is left out.
 */
export function makeServedRecord(
  graph: Graph,
  held: ReadonlyMap<Digest, BlobInfo>,
  options: { bytesMax: number } = { bytesMax: recordBytesMax },
): ServedRecord {
  const choices = chooseResults(graph, held)
  const useful = usefulRecords(graph.records, (record) => choices.has(record.key))
  // A record is never newer than its inputs, nor less deep, so whatever this order is cut off at is closed.
  const ordered = [...graph.records.values()]
    .filter((record) => useful.has(record.key))
    .sort((a, b) => b.sequence - a.sequence || a.depth - b.depth || compareText(a.key, b.key))

  return largestFitting(ordered.length, options.bytesMax, (count) =>
    write(graph, withoutUseless(ordered.slice(0, count), choices), choices),
  )
}

/** Of config and manifest, for a record with a layer of its own: what BuildKit writes for usual builds. */
const recordBytesUsual = 330

/** Close enough to the limit: what is left out then is a few steps of an old build. */
const fullEnough = 0.97

/** The most records, counted from the first, whose documents fit. Each try writes them all, so few are made. */
function largestFitting(
  all: number,
  bytesMax: number,
  serve: (count: number) => ServedRecord,
): ServedRecord {
  let best = serve(0)
  let low = 0
  let high = all + 1
  let count = Math.min(all, Math.ceil(bytesMax / recordBytesUsual))
  for (let round = 0; high - low > 1; round += 1) {
    const tried = serve(count)
    const bytes = Math.max(...tried.documents.map((document) => document.bytes.length))
    if (bytes <= bytesMax) {
      low = count
      best = tried
      if (bytes > bytesMax * fullEnough) break
    } else {
      high = count
    }
    // Bytes grow nearly in step with records: go where that points, and halve if it leads nowhere.
    const pointed = Math.floor((count * bytesMax * 0.99) / bytes)
    const points = round < 4 && low < pointed && pointed < high
    count = points ? pointed : (low + high) >>> 1
  }
  return best
}

/**
 * Results are BuildKit's to choose by age, so it gets one for each record: the one seen last of those that
 * are here whole, which for the records of one build are those of that build. Of the same age, the smaller.
 */
function chooseResults(
  graph: Graph,
  held: ReadonlyMap<Digest, BlobInfo>,
): ReadonlyMap<string, Choice> {
  const bytesOf = createMeasure(graph, held)
  const choices = new Map<string, Choice>()
  for (const record of graph.records.values()) {
    let best: Choice | undefined
    for (const { chain, sequence } of record.results.values()) {
      const bytes = bytesOf(chain)
      if (bytes === undefined) continue
      const choice = { record, chain, sequence, bytes }
      if (best === undefined || compareChoices(choice, best) > 0) best = choice
    }
    if (best !== undefined) choices.set(record.key, best)
  }
  return choices
}

/** Positive when `a` is the better one. A total order, so that what is served depends on content alone. */
function compareChoices(a: Choice, b: Choice): number {
  return (
    a.sequence - b.sequence ||
    b.bytes - a.bytes ||
    compareText(b.chain.key, a.chain.key) ||
    compareText(b.record.key, a.record.key)
  )
}

/** Bytes of a whole chain; undefined when a layer of it cannot be delivered as its descriptor says. */
function createMeasure(
  graph: Graph,
  held: ReadonlyMap<Digest, BlobInfo>,
): (chain: Chain) => number | undefined {
  const known = new Map<string, number | undefined>()
  return (last) => {
    const path: Chain[] = []
    let each: Chain | undefined = last
    for (; each !== undefined && !known.has(each.key); each = each.parent) path.push(each)
    let below = each === undefined ? 0 : known.get(each.key)
    for (const chain of path.reverse()) {
      const size = held.get(chain.blob)?.size
      const promised = graph.descriptors.get(chain.blob)?.descriptor.size
      const whole = size !== undefined && size === promised
      below = whole && below !== undefined ? below + size : undefined
      known.set(chain.key, below)
    }
    return known.get(last.key)
  }
}

/** Cut off, a graph may hold records whose only use was to feed others that are gone. */
function withoutUseless(
  records: readonly GraphRecord[],
  choices: ReadonlyMap<string, Choice>,
): GraphRecord[] {
  const byKey = new Map(records.map((record) => [record.key, record]))
  const useful = usefulRecords(byKey, (record) => choices.has(record.key))
  return records.filter((record) => useful.has(record.key))
}

function write(
  graph: Graph,
  records: readonly GraphRecord[],
  choices: ReadonlyMap<string, Choice>,
): ServedRecord {
  const ranked = records
    .map((record) => choices.get(record.key))
    .filter((choice) => choice !== undefined)
    .sort(compareChoices)
  const createdAt = new Map(ranked.map(({ record }, rank) => [record.key, timeOfRank(rank)]))
  const { config, blobs } = writeConfig(records, (record) => {
    const choice = choices.get(record.key)
    const time = createdAt.get(record.key)
    return choice && time ? [{ chain: choice.chain, createdAt: time }] : []
  })
  const layers = blobs
    .map((blob) => graph.descriptors.get(blob)?.descriptor)
    .filter((descriptor): descriptor is Descriptor => descriptor !== undefined)
  const bytes = Buffer.from(JSON.stringify(config))
  const digest = digestOf(bytes)
  const manifest = writeCacheManifest({
    config: { mediaType: cacheConfigMediaType, digest, size: bytes.length },
    layers,
  })
  return {
    documents: [
      { ...manifest, digest: digestOf(manifest.bytes), tag: recordTag },
      { digest, mediaType: cacheConfigMediaType, bytes },
    ],
    records: records.length,
    blobs,
  }
}

/**
 * 1970 and the rank in seconds. BuildKit takes the newest result, its own or imported: what this daemon has
 * made itself must win, and two imported ones must never be of the same age (v1/chains.go: addResult drops
 * the second).
 */
function timeOfRank(rank: number): string {
  return new Date((rank + 1) * 1000).toISOString().replace('.000Z', 'Z')
}
