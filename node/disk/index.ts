/**
 * The node's disk: one budget over BuildKit's state, its content stores and the cache store.
 *
 *   free disk   room ──▶ low ──▶ short ──▶ full
 *               caches   shrink   no new    running builds
 *               grow              leases    are stopped
 *
 * Promises:
 * - A project's policy governs the sum of all it keeps here, what is shared on disk counted once, and is kept
 *   within a tenth whenever its builds rest.
 * - BuildKit's state shrinks only while nobody uses it; a scope that is never idle is held back until it is.
 * - The disk is never filled by us: builds are told so and stopped before, and go on by themselves after.
 * docs/decisions/disk.md has the order in which things go, and why.
 */
import type { Scope, ScopeId } from '../../core/scope.ts'
import type { DiskMarks } from './marks.ts'

export interface DiskBudget extends AsyncDisposable {
  /** Looked at by walking what has changed since the last look. */
  usage(options: { signal: AbortSignal }): Promise<CachesUsage>
  /** True while no new leases are given for want of space. */
  readonly isShort: boolean
  /** The policies have changed, or a scope's daemon rests: looks after them soon, in the background. */
  tend(): void
}

/** In allocated bytes. */
export interface CachesUsage {
  readonly scopes: ReadonlyMap<ScopeId, ScopeUse>
  readonly projects: readonly ProjectUse[]
  /** BuildKit's states without their content stores. */
  readonly snapshotBytes: number
  readonly contentBytes: number
  readonly storeBytes: number
  /** Counted in both of the two before. */
  readonly sharedBytes: number
  readonly setAsideBytes: number
  /** Each file once. */
  readonly totalBytes: number
  /** What the total may grow to before the caches shrink. */
  readonly limitBytes: number
  readonly freeBytes: number
  readonly marks: DiskMarks
}

/** What one scope's BuildKit takes. */
export interface ScopeUse {
  readonly scope: Scope
  /** All of its state. */
  readonly bytes: number
  readonly contentBytes: number
  /** Part of `contentBytes` that is the cache store's too. */
  readonly sharedBytes: number
  /** Part of `sharedBytes` whose blobs the scope's own project owns in the cache store. */
  readonly ownSharedBytes: number
  readonly setAsideBytes: number
  readonly lastUsedAtMs: number
}

export interface ProjectUse {
  readonly project: string
  /** Cache store and BuildKit's states, what they share once. */
  readonly bytes: number
  readonly bytesMax: number
  readonly daysMax: number
}

export { createDiskBudget, type DiskBudgetOptions } from './disk-budget.ts'
export type { DiskMarks } from './marks.ts'
