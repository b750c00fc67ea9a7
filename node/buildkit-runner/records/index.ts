/**
 * Records: BuildKit's cache graph, kept as one fragment per build and served as the union of a scope's
 * fragments. Merging is associative, commutative and idempotent and looks at no clock.
 */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { Pin } from '../../cache-store/index.ts'
import type { GrantDocument } from '../registry/index.ts'

export interface Records {
  /**
   * Reads the cache manifest that a build has pushed into the store and keeps it as a fragment.
   * @throws HearthError `invalid-input` when it is no cache record, `not-found` when its blobs are not here.
   */
  keep(scope: Scope, manifest: Digest): Promise<KeepResult>

  /**
   * The scope's record for one build: the union of its fragments, narrowed to what this node can deliver,
   * within BuildKit's limits, its blobs pinned until `pin` is disposed. Served as documents of a grant.
   * An empty record when there is nothing yet.
   */
  compose(scope: Scope): ComposedRecord

  /** Number of fragments by scope. */
  count(scope: Scope): number

  /** Forgets the scope's fragments (their blobs belong to the store). */
  reset(scope: Scope): Promise<void>
}

export interface KeepResult {
  fragment: Digest
  /** False when the same fragment was kept before. */
  added: boolean
}

export interface ComposedRecord extends Disposable {
  /** Manifest (tag `record`) and config, for a read grant. */
  readonly documents: readonly GrantDocument[]
  readonly records: number
  readonly layers: number
  readonly pin: Pin
}

/** The tag under which a composed record is served and a fragment is pushed. */
export const recordTag = 'record'

export { createRecords, type RecordsOptions } from './fragments.ts'
