/**
 * The record that a build imports, made from a graph: one result for each step, only layers that can be
 * delivered, within BuildKit's limits, and older than anything that the daemon has made itself.
 */
import { type Digest, digestOf } from '../../../core/digest.ts'
import { recordBytesMax } from '../../../core/limits.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { Whereabouts } from '../../cache-store/sources/index.ts'
import type { GrantDocument } from '../registry/index.ts'
import {
  blobsOf,
  type Chain,
  compareLabels,
  compareText,
  type Descriptor,
  type Graph,
  type GraphRecord,
  usefulRecords,
} from './graph.ts'
import { recordTag } from './index.ts'
import { cacheConfigMediaType, writeCacheManifest } from './manifest.ts'
import { writeConfig } from './record.ts'
import { finish, type Steps } from './steps.ts'

export interface ServedRecord {
  readonly documents: readonly GrantDocument[]
  readonly records: number
  /** False when not all that can be had fits into what BuildKit reads. */
  readonly isWhole: boolean
  /** The blobs it promises, each once. */
  readonly blobs: readonly Digest[]
  /** Those of them that were not here when the record was made. */
  readonly elsewhere: ReadonlySet<Digest>
  /** Results that are known and that nobody can deliver, by a layer that is missing: the latest, at most ten. */
  readonly lacking: readonly BlobInfo[]
}

/** Of one of its layers. `where` absent: here. */
export type Deliverable = BlobInfo & { readonly where?: Whereabouts }

export interface ServeOptions {
  /** Of config and manifest each. When the whole does not fit, what was said last comes first. Default: BuildKit's limit. */
  readonly bytesMax?: number
  /** By lineage: what of its layers is elsewhere. Of builds that knew nothing of each other, the less the better. */
  readonly toBring?: ReadonlyMap<string, number>
  /** Keys of records that the build is expected to want: when not all fits, they and their inputs come first. */
  readonly wanted?: ReadonlySet<string>
}

const lackingMax = 10
const recordsPerStep = 200

/** The result that is served for a record. */
interface Choice {
  readonly record: GraphRecord
  readonly chain: Chain
  readonly sequence: number
  readonly lineage: string
  readonly bytes: number
}

/** @param deliverable what can be had, wherever it is. */
export function makeServedRecord(
  graph: Graph,
  deliverable: ReadonlyMap<Digest, Deliverable>,
  options: ServeOptions = {},
): ServedRecord {
  return finish(serveInSteps(graph, deliverable, options))
}

export function* serveInSteps(
  graph: Graph,
  deliverable: ReadonlyMap<Digest, Deliverable>,
  { bytesMax = recordBytesMax, toBring = new Map(), wanted = new Set() }: ServeOptions = {},
): Steps<ServedRecord> {
  const { choices, lacking } = yield* chooseResults(graph, deliverable, toBring)
  const compare = createComparison(toBring)
  yield
  const useful = usefulRecords(graph.records, (record) => choices.has(record.key))
  yield
  const first = usefulRecords(graph.records, ({ key }) => wanted.has(key) && choices.has(key))
  const rankOf = ({ key }: GraphRecord) => Number(!first.has(key))
  // A record is never newer than its inputs, nor less deep, and what is wanted is closed in itself: so whatever this
  // order is cut off at is closed.
  const ordered = [...graph.records.values()]
    .filter((record) => useful.has(record.key))
    .sort((a, b) => rankOf(a) - rankOf(b) || compareAge(a, b))
  yield
  const fitting = yield* largestFitting(ordered, bytesMax, (records) =>
    write(graph, withoutUseless(records, choices), { choices, compare }),
  )
  const isElsewhere = (blob: Digest) => (deliverable.get(blob)?.where ?? 'held') !== 'held'
  return { ...fitting, elsewhere: new Set(fitting.blobs.filter(isElsewhere)), lacking }
}

type Written = Omit<ServedRecord, 'lacking' | 'elsewhere' | 'isWhole'>

/** Of config and manifest, for a record with a layer of its own: what BuildKit writes for usual builds. */
const recordBytesUsual = 330

/** Close enough to the limit: what is left out then is a few steps of an old build. */
const fullEnough = 0.97

/** The most records, counted from the first, whose documents fit. Each try writes them all, so few are made. */
function* largestFitting(
  ordered: readonly GraphRecord[],
  bytesMax: number,
  serve: (records: readonly GraphRecord[]) => Steps<Written>,
): Steps<Written & { isWhole: boolean }> {
  const all = ordered.length
  let best = yield* serve([])
  let low = 0
  let high = all + 1
  let count = Math.min(all, Math.ceil(bytesMax / recordBytesUsual))
  for (let round = 0; high - low > 1; round += 1) {
    yield
    const tried = yield* serve(ordered.slice(0, count))
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
  return { ...best, isWhole: low === all }
}

/** What was said last comes first, inputs before what depends on them. */
function compareAge(a: GraphRecord, b: GraphRecord): number {
  return b.sequence - a.sequence || a.depth - b.depth || compareText(a.key, b.key)
}

/**
 * Results are BuildKit's to choose by age, so it gets one for each record: the one said last of those that can be
 * had whole, which for the records of one build are those of that build.
 */
function* chooseResults(
  graph: Graph,
  deliverable: ReadonlyMap<Digest, Deliverable>,
  toBring: ReadonlyMap<string, number>,
): Steps<{ choices: ReadonlyMap<string, Choice>; lacking: BlobInfo[] }> {
  const bytesOf = createMeasure(graph, deliverable)
  const compare = createComparison(toBring)
  const choices = new Map<string, Choice>()
  const without: GraphRecord[] = []
  let count = 0
  for (const record of graph.records.values()) {
    count += 1
    if (count % recordsPerStep === 0) yield
    let best: Choice | undefined
    for (const { chain, sequence, lineage } of record.results.values()) {
      const bytes = bytesOf(chain)
      if (bytes === undefined) continue
      const choice = { record, chain, sequence, lineage, bytes }
      if (best === undefined || compare(choice, best) > 0) best = choice
    }
    if (best !== undefined) choices.set(record.key, best)
    else if (record.results.size > 0) without.push(record)
  }
  return { choices, lacking: lackingOf(graph, without, deliverable) }
}

/**
 * Positive when `a` is the better one. A total order, so that what is served depends on content alone, and on what
 * is here: of results of the same sequence, those of the build of which least is elsewhere, so that what a build
 * gets fits together; then the smaller.
 */
function createComparison(toBring: ReadonlyMap<string, number>) {
  const bytesOf = (lineage: string) => toBring.get(lineage) ?? 0
  return (a: Choice, b: Choice): number =>
    a.sequence - b.sequence ||
    bytesOf(b.lineage) - bytesOf(a.lineage) ||
    compareText(a.lineage, b.lineage) ||
    b.bytes - a.bytes ||
    compareText(b.chain.key, a.chain.key) ||
    compareText(b.record.key, a.record.key)
}

/** One missing layer for each record without a result that can be had; the latest records first. */
function lackingOf(
  graph: Graph,
  records: GraphRecord[],
  deliverable: ReadonlyMap<Digest, Deliverable>,
): BlobInfo[] {
  const found = new Map<Digest, BlobInfo>()
  records.sort(compareAge)
  for (const { results } of records) {
    if (found.size === lackingMax) break
    const [latest] = [...results.values()].sort((a, b) => compareLabels(b, a))
    if (latest === undefined) continue
    const missing = blobsOf(latest.chain).find((blob) => !deliverable.has(blob))
    const size = missing && graph.descriptors.get(missing)?.descriptor.size
    if (missing !== undefined && size !== undefined) found.set(missing, { digest: missing, size })
  }
  return [...found.values()]
}

/** Bytes of a whole chain; undefined when a layer of it cannot be delivered as its descriptor says. */
function createMeasure(
  graph: Graph,
  deliverable: ReadonlyMap<Digest, Deliverable>,
): (chain: Chain) => number | undefined {
  const known = new Map<string, number | undefined>()
  return (last) => {
    const path: Chain[] = []
    let each: Chain | undefined = last
    for (; each !== undefined && !known.has(each.key); each = each.parent) path.push(each)
    let below = each === undefined ? 0 : known.get(each.key)
    for (const chain of path.reverse()) {
      const size = deliverable.get(chain.blob)?.size
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

function* write(
  graph: Graph,
  records: readonly GraphRecord[],
  {
    choices,
    compare,
  }: {
    choices: ReadonlyMap<string, Choice>
    compare: (a: Choice, b: Choice) => number
  },
): Steps<Written> {
  yield
  const ranked = records
    .map((record) => choices.get(record.key))
    .filter((choice) => choice !== undefined)
    .sort(compare)
  yield
  const createdAt = new Map(ranked.map(({ record }, rank) => [record.key, timeOfRank(rank)]))
  const { config, blobs } = writeConfig(records, (record) => {
    const choice = choices.get(record.key)
    const time = createdAt.get(record.key)
    return choice && time ? [{ chain: choice.chain, createdAt: time }] : []
  })
  yield
  const layers = blobs
    .map((blob) => graph.descriptors.get(blob)?.descriptor)
    .filter((descriptor): descriptor is Descriptor => descriptor !== undefined)
  const bytes = Buffer.from(JSON.stringify(config))
  yield
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
