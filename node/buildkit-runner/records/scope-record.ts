/**
 * One scope's fragments in memory, their union, and the record that is served from it, made ahead of the
 * build that will ask for it. Everything long is a generator: whoever runs it lets others have a turn.
 *
 * What is given up depends on what the fragments say and on nothing else, so that all nodes that know the same
 * fragments give up the same ones, in whatever order they came.
 */
import { hash } from 'node:crypto'
import type { Digest } from '../../../core/digest.ts'
import { compareLabels, type Graph, hasResult, type Label } from './graph.ts'
import { type Deliverable, type ServedRecord, serveInSteps } from './serve-record.ts'
import type { Steps } from './steps.ts'
import { createUnion } from './union.ts'

/**
 * A fragment beyond that number goes, oldest first. The bound is seldom met: a daemon's next export of the
 * same build holds what the last one held, and makes it superfluous.
 */
export const fragmentsMax = 200

export interface FragmentLabel {
  readonly sequence: number
  /** It cannot vanish with one node: only then does it make others superfluous. */
  readonly isKept: boolean
}

export interface KeptFragment extends FragmentLabel {
  readonly digest: Digest
  readonly graph: Graph
}

export interface ScopeRecord {
  readonly fragments: ReadonlyMap<Digest, KeptFragment>
  readonly latest: number
  /**
   * Adds a fragment, or gives one that is there a later label; an earlier one changes nothing, but that what was
   * kept once is kept: whatever it has made superfluous is gone.
   * @returns the fragments that nothing depends on any more.
   */
  add(fragment: KeptFragment): Steps<Digest[]>
  /** What could be part of the served record. */
  readonly union: Graph
  /** As of the last `refresh`. */
  readonly served: ServedRecord | undefined
  /** @param whereabouts asked for every blob: undefined when it cannot be delivered. */
  refresh(
    whereabouts: (blob: { digest: Digest; size: number }) => Deliverable['where'] | undefined,
  ): Steps<ServedRecord>
  /** For a build of these steps, when not everything fits: made from what the last `refresh` has found. */
  narrow(steps: ReadonlySet<Digest>): Steps<ServedRecord>
  /** What `narrow` has made of these steps, until the next `refresh`. */
  narrowed(steps: ReadonlySet<Digest>): ServedRecord | undefined
}

const blobsPerStep = 200

/** Builds of one scope that begin at about the same time. */
const narrowedMax = 8

export function createScopeRecord(): ScopeRecord {
  const fragments = new Map<Digest, KeptFragment>()
  /** By record: the latest of the kept fragments that give a result for it. */
  const tops = new Map<string, Label>()
  const union = createUnion()
  let latest = 0
  let served: ServedRecord | undefined
  let found: { deliverable: Map<Digest, Deliverable>; toBring: Map<string, number> } | undefined
  const narrow = new Map<string, ServedRecord>()

  /** @returns those that were the latest for something until now. */
  function top(fragment: KeptFragment): Set<Digest> {
    const label = labelOf(fragment)
    const displaced = new Set<Digest>()
    for (const record of fragment.graph.records.values()) {
      if (!hasResult(record)) continue
      const before = tops.get(record.key)
      if (before !== undefined && compareLabels(before, label) >= 0) continue
      tops.set(record.key, label)
      if (before !== undefined) displaced.add(before.lineage as Digest)
    }
    return displaced
  }

  /**
   * Whether later fragments, which are kept, give a result for every record that this one gives a result for. Its
   * own results would then be served only if the later ones were lost, and what is older is lost first.
   */
  function isSuperseded(fragment: KeptFragment): boolean {
    const label = labelOf(fragment)
    for (const record of fragment.graph.records.values()) {
      if (!hasResult(record)) continue
      const best = tops.get(record.key)
      if (best === undefined || compareLabels(best, label) <= 0) return false
    }
    return true
  }

  /** Those that went for want of room take their places with them: as the oldest, they have nobody below them. */
  function giveUp(fragment: KeptFragment): void {
    fragments.delete(fragment.digest)
    for (const key of fragment.graph.records.keys()) {
      if (tops.get(key)?.lineage === fragment.digest) tops.delete(key)
    }
  }

  return {
    fragments,
    get latest() {
      return latest
    },
    union: union.graph,
    *add(told) {
      const known = fragments.get(told.digest)
      if (known !== undefined && covers(known, told)) return []
      const fragment = known === undefined ? told : { ...told, ...laterOf(known, told) }
      fragments.set(fragment.digest, fragment)
      latest = Math.max(latest, fragment.sequence)
      if (known?.sequence !== fragment.sequence) {
        yield* union.add(fragment.digest, fragment.graph, fragment.sequence)
      }
      const displaced = fragment.isKept ? top(fragment) : new Set<Digest>()
      const gone: KeptFragment[] = []
      for (const each of fragments.values()) {
        yield
        const isDoubtful = displaced.has(each.digest) || !each.isKept || each === fragment
        if (isDoubtful && isSuperseded(each)) gone.push(each)
      }
      const left = [...fragments.values()].filter((each) => !gone.includes(each))
      left.sort((a, b) => compareLabels(labelOf(a), labelOf(b)))
      gone.push(...left.slice(0, Math.max(left.length - fragmentsMax, 0)))
      for (const each of gone) {
        giveUp(each)
        yield* union.remove(each.digest)
      }
      return gone.map(({ digest }) => digest)
    },
    get served() {
      return served
    },
    *refresh(whereabouts) {
      const deliverable = new Map<Digest, Deliverable>()
      let count = 0
      for (const [digest, { descriptor }] of union.graph.descriptors) {
        const { size } = descriptor
        const where = whereabouts({ digest, size })
        if (where !== undefined) deliverable.set(digest, { digest, size, where })
        count += 1
        if (count % blobsPerStep === 0) yield
      }
      const toBring = new Map<string, number>()
      for (const { digest, graph } of fragments.values()) {
        yield
        toBring.set(digest, bytesToBring(graph, deliverable))
      }
      served = yield* serveInSteps(union.graph, deliverable, { toBring })
      found = { deliverable, toBring }
      narrow.clear()
      return served
    },
    *narrow(steps) {
      const { deliverable, toBring } = found ?? { deliverable: new Map(), toBring: new Map() }
      const wanted = new Set<string>()
      for (const { graph } of fragments.values()) {
        yield
        for (const [stepKey, recordKey] of graph.steps ?? []) {
          if (steps.has(stepKey)) wanted.add(recordKey)
        }
      }
      const made = yield* serveInSteps(union.graph, deliverable, { toBring, wanted })
      narrow.set(nameOf(steps), made)
      const [oldest] = narrow.keys()
      if (narrow.size > narrowedMax && oldest !== undefined) narrow.delete(oldest)
      return made
    },
    narrowed: (steps) => narrow.get(nameOf(steps)),
  }
}

function nameOf(steps: ReadonlySet<Digest>): string {
  return hash('sha256', [...steps].sort().join())
}

function labelOf({ sequence, digest }: KeptFragment): Label {
  return { sequence, lineage: digest }
}

/** Whether a fragment of the first label learns nothing from the second. */
export function covers(known: FragmentLabel, told: FragmentLabel): boolean {
  return known.sequence >= told.sequence && (known.isKept || !told.isKept)
}

function laterOf(a: FragmentLabel, b: FragmentLabel): FragmentLabel {
  return { sequence: Math.max(a.sequence, b.sequence), isKept: a.isKept || b.isKept }
}

function bytesToBring(graph: Graph, deliverable: ReadonlyMap<Digest, Deliverable>): number {
  let bytes = 0
  for (const [digest, { descriptor }] of graph.descriptors) {
    if (deliverable.get(digest)?.where !== 'held') bytes += descriptor.size
  }
  return bytes
}
