/**
 * Keeps every project within its policy, in this order:
 *
 * 1. What was not used for `daysMax` days goes.
 * 2. While the project's blobs, each counted once, exceed `bytesMax`, and those that its main line does not own
 *    exceed a quarter of it: the side lines' holding used longest ago goes. However much forks build, they do
 *    not push out what the project itself has made.
 * 3. While they still exceed `bytesMax`: the holding used longest ago goes, whichever line it belongs to and
 *    whatever its size.
 *
 * What is pinned stays, even over the limit. A holding is one scope's: the blob is unlinked with its last.
 * Works in slices, so that a large eviction neither holds the event loop nor one long transaction.
 */
import type { Logger } from '../../core/log.ts'
import { mainLine } from '../../core/scope.ts'
import type { Accounts } from './accounts.ts'
import type { BlobIndex } from './blob-index.ts'
import type { Holdings } from './holdings.ts'
import type { EvictionPolicy } from './index.ts'
import { projectOf, type Use } from './index-keys.ts'
import type { LastUse } from './last-use.ts'
import type { PinCounts } from './pins.ts'
import type { Publication } from './publication.ts'

export interface Eviction {
  setPolicies(policies: ReadonlyMap<string, EvictionPolicy>): void
  policyOf(project: string): EvictionPolicy
  /** See CacheStore.setRoom. */
  setRoom(project: string, bytesMax: number): void
  /** The lower of policy and room. */
  bytesMaxOf(project: string): number
  /** Runs now, after a run that is under way. */
  run(): Promise<Evicted>
  /** See CacheStore.evictOldest; in line with the runs. */
  runOldest(bytes: number): Promise<Evicted>
}

export interface Evicted {
  readonly blobs: number
  readonly bytesFreed: number
}

const dayMs = 86_400_000
/** Holdings looked at between two turns of the event loop. */
const sliceMax = 64
/** What all lines but the main one may keep of a project's bytes before theirs go first. */
const sideLinesShare = 0.25
/** As many go at once when the disk fills up: a few too many do no harm, one by one would take long. */
const oldestSliceMax = 8

/** Which of these uses, the oldest of those left, go; done when the rest may stay. */
type Choose = (project: string, uses: readonly Use[]) => { chosen: Use[]; isDone: boolean }

export function createEviction(
  deps: {
    index: BlobIndex
    accounts: Accounts
    holdings: Holdings
    pins: PinCounts
    lastUse: LastUse
    publication: Publication
    log: Logger
  },
  options: {
    defaultPolicy: EvictionPolicy
    policies: ReadonlyMap<string, EvictionPolicy>
    /** Asked before every slice: a store that closes does not wait for a long eviction. */
    mayGoOn: () => boolean
  },
): Eviction {
  const { index, accounts, holdings, pins, lastUse } = deps
  let policies = options.policies
  let last: Promise<unknown> = Promise.resolve()

  const policyOf = (project: string) => policies.get(project) ?? options.defaultPolicy

  const rooms = new Map<string, number>()
  const bytesMaxOf = (project: string) =>
    Math.min(policyOf(project).bytesMax, rooms.get(project) ?? Number.POSITIVE_INFINITY)

  const evictProject = async (project: string): Promise<Evicted> => {
    const ofSideLines = await walk(project, chooseOfSideLines)
    const ofAll = await walk(project, chooseOfAll)
    const evicted = sum([ofSideLines, ofAll])
    if (evicted.blobs > 0) deps.log.info({ project, ...evicted }, 'evicted from the cache store')
    return evicted
  }

  /** Goes through a project's uses, the oldest first, and releases those chosen until there is enough. */
  const walk = async (project: string, choose: Choose): Promise<Evicted> => {
    const total = { blobs: 0, bytesFreed: 0 }
    let after: Use | undefined
    while (options.mayGoOn()) {
      const uses = index.usesAfter(project, after, sliceMax)
      after = uses.at(-1)
      const { chosen, isDone } = choose(project, uses)
      const { blobs, bytesFreed } = await release(chosen)
      total.blobs += blobs
      total.bytesFreed += bytesFreed
      if (isDone || after === undefined) break
    }
    return total
  }

  const release = async (chosen: readonly Use[]): Promise<Evicted> => {
    if (chosen.length === 0) return { blobs: 0, bytesFreed: 0 }
    const released = await holdings.release(chosen, { sparePinned: true })
    const gone = released.filter((blob) => blob.fate === 'gone')
    await Promise.all(gone.map((blob) => deps.publication.sweep(blob.digest)))
    return { blobs: gone.length, bytesFreed: gone.reduce((bytes, blob) => bytes + blob.size, 0) }
  }

  const maySpare = (use: Use) => pins.isPinned(use.digest) || lastUse.isPending(use)

  const chooseOfAll: Choose = (project, uses) => {
    const oldestMs = lastUse.now() - policyOf(project).daysMax * dayMs
    let bytesOver = accounts.project(project).bytes - bytesMaxOf(project)
    const chosen: Use[] = []
    for (const use of uses) {
      if (bytesOver <= 0 && use.lastUsedAtMs >= oldestMs) return { chosen, isDone: true }
      if (maySpare(use)) continue
      chosen.push(use)
      if (isLastInProject(use, chosen)) bytesOver -= holdings.size(use.digest) ?? 0
    }
    return { chosen, isDone: false }
  }

  const chooseOfSideLines: Choose = (project, uses) => {
    const bytesMax = bytesMaxOf(project)
    const { bytes } = accounts.project(project)
    // What a side line shares with the main one is the main line's.
    const sideBytes = bytes - accounts.scope(`${project}/${mainLine}`).bytes
    let bytesOver = Math.min(bytes - bytesMax, sideBytes - bytesMax * sideLinesShare)
    const chosen: Use[] = []
    for (const use of uses) {
      if (bytesOver <= 0) return { chosen, isDone: true }
      if (maySpare(use) || use.scope === `${project}/${mainLine}`) continue
      chosen.push(use)
      if (isLastInProject(use, chosen)) bytesOver -= holdings.size(use.digest) ?? 0
    }
    return { chosen, isDone: bytesOver <= 0 }
  }

  /** The uses that are the oldest of all projects together, a slice at a time. */
  const oldestOfAll = async (bytes: number): Promise<Evicted> => {
    await lastUse.flush()
    const places = new Map(
      accounts.projects().map((project) => [project, undefined as Use | undefined]),
    )
    const total = { blobs: 0, bytesFreed: 0 }
    while (total.bytesFreed < bytes && places.size > 0 && options.mayGoOn()) {
      const heads = [...places].flatMap(([project, after]) => {
        const [head] = index.usesAfter(project, after, 1)
        if (head === undefined) places.delete(project)
        return head === undefined ? [] : [{ project, after, atMs: head.lastUsedAtMs }]
      })
      const oldest = heads.toSorted((a, b) => a.atMs - b.atMs)[0]
      if (oldest === undefined) break
      const uses = index.usesAfter(oldest.project, oldest.after, oldestSliceMax)
      places.set(oldest.project, uses.at(-1))
      const evicted = await release(uses.filter((use) => !maySpare(use)))
      total.blobs += evicted.blobs
      total.bytesFreed += evicted.bytesFreed
    }
    if (total.blobs > 0) deps.log.info(total, 'evicted the oldest blobs from the cache store')
    return total
  }

  /** A blob that another line of the project goes on owning frees nothing yet. */
  const isLastInProject = (use: Use, chosen: readonly Use[]) =>
    !index
      .owners(use.digest)
      .some(
        (scope) =>
          projectOf(scope) === projectOf(use.scope) &&
          !chosen.some((other) => other.digest === use.digest && other.scope === scope),
      )

  const runAll = async (): Promise<Evicted> => {
    await lastUse.flush()
    const evicted: Evicted[] = []
    for (const project of accounts.projects()) evicted.push(await evictProject(project))
    return sum(evicted)
  }

  const inLine = (work: () => Promise<Evicted>): Promise<Evicted> => {
    const run = last.then(work)
    last = run.catch(() => undefined)
    return run
  }

  return {
    policyOf,
    setPolicies(changed) {
      policies = new Map(changed)
    },
    setRoom(project, bytesMax) {
      rooms.set(project, bytesMax)
    },
    bytesMaxOf,
    run: () => inLine(runAll),
    runOldest: (bytes) => inLine(() => oldestOfAll(bytes)),
  }
}

function sum(parts: readonly Evicted[]): Evicted {
  return {
    blobs: parts.reduce((total, { blobs }) => total + blobs, 0),
    bytesFreed: parts.reduce((total, { bytesFreed }) => total + bytesFreed, 0),
  }
}
