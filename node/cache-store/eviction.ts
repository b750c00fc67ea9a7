/**
 * Keeps every project within its policy, in this order:
 *
 * 1. What was not used for `daysMax` days goes.
 * 2. While the project's blobs, each counted once, exceed `bytesMax`: the holding used longest ago goes,
 *    whichever of the project's lines it belongs to and whatever its size.
 *
 * What is pinned stays, even over the limit. A holding is one scope's: the blob is unlinked with its last.
 * Works in slices, so that a large eviction neither holds the event loop nor one long transaction.
 */
import type { Logger } from '../../core/log.ts'
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
  /** Runs now, after a run that is under way. */
  run(): Promise<Evicted>
}

export interface Evicted {
  readonly blobs: number
  readonly bytesFreed: number
}

const dayMs = 86_400_000
/** Holdings looked at between two turns of the event loop. */
const sliceMax = 64

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

  const evictProject = async (project: string): Promise<Evicted> => {
    let blobs = 0
    let bytesFreed = 0
    let after: Use | undefined
    while (options.mayGoOn()) {
      const uses = index.usesAfter(project, after, sliceMax)
      after = uses.at(-1)
      const { chosen, isDone } = choose(project, uses)
      const released = await holdings.release(chosen, { sparePinned: true })
      const gone = released.filter((blob) => blob.fate === 'gone')
      await Promise.all(gone.map((blob) => deps.publication.sweep(blob.digest)))
      blobs += gone.length
      bytesFreed += gone.reduce((sum, blob) => sum + blob.size, 0)
      if (isDone || after === undefined) break
    }
    if (blobs > 0) deps.log.info({ project, blobs, bytesFreed }, 'evicted from the cache store')
    return { blobs, bytesFreed }
  }

  /** Which of these uses, the oldest of those left, go; done when the rest may stay. */
  const choose = (project: string, uses: readonly Use[]): { chosen: Use[]; isDone: boolean } => {
    const policy = policyOf(project)
    const oldestMs = lastUse.now() - policy.daysMax * dayMs
    let bytesOver = accounts.project(project).bytes - policy.bytesMax
    const chosen: Use[] = []
    for (const use of uses) {
      if (bytesOver <= 0 && use.lastUsedAtMs >= oldestMs) return { chosen, isDone: true }
      if (pins.isPinned(use.digest) || lastUse.isPending(use)) continue
      chosen.push(use)
      if (isLastInProject(use, chosen)) bytesOver -= holdings.size(use.digest) ?? 0
    }
    return { chosen, isDone: false }
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
    let blobs = 0
    let bytesFreed = 0
    for (const project of accounts.projects()) {
      const evicted = await evictProject(project)
      blobs += evicted.blobs
      bytesFreed += evicted.bytesFreed
    }
    return { blobs, bytesFreed }
  }

  return {
    policyOf,
    setPolicies(changed) {
      policies = new Map(changed)
    },
    run() {
      const run = last.then(runAll)
      last = run.catch(() => undefined)
      return run
    },
  }
}
