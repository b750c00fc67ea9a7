/**
 * Records: BuildKit's cache graph, kept as one fragment per build and served as the union of a scope's fragments,
 * whichever node made them. Merging is associative, commutative and idempotent and looks at no clock
 * (docs/decisions/records.md).
 */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { KeyedOperation } from '../../../plan/index.ts'
import type { BlobInfo, Pin } from '../../cache-store/index.ts'
import type { GrantDocument } from '../registry/index.ts'

export interface Records {
  /**
   * Reads the cache manifest that a build has pushed into the store, keeps it as a fragment and tells the mesh.
   * @param options.operations of the build, so that its steps' results are known by their keys.
   * @throws HearthError `invalid-input` when it is no cache record, `not-found` when its documents are not here.
   */
  keep(
    scope: Scope,
    manifest: Digest,
    options?: { operations?: readonly KeyedOperation[] },
  ): Promise<KeepResult>

  /**
   * Resolves when the fragment and its blobs are somewhere else too: on a second node, or in the object store. At once
   * where there is neither. Never rejects.
   */
  settled(scope: Scope, fragment: Digest, options: { signal: AbortSignal }): Promise<Settled>

  /**
   * Gets what the mesh knows of the scope and this node does not, and makes its record anew where that is needed.
   * For the time before `compose`. Resolves within seconds, whatever it got; at once when there is nothing to do.
   */
  ready(scope: Scope, options: ReadyOptions): Promise<void>

  /**
   * The scope's record for one build: the union of its fragments, narrowed to what can be delivered from here, from
   * peers or from the object store, within BuildKit's limits. What is here is pinned until `pin` is disposed. Served
   * as documents of a grant. An empty record when there is nothing yet.
   * @param options.steps as they were given to `ready`.
   */
  compose(scope: Scope, options?: { steps?: ReadonlySet<Digest> }): ComposedRecord

  /** Number of fragments by scope. */
  count(scope: Scope): number

  /** That have fragments here, or are known in the mesh. */
  scopes(): Scope[]

  /** By step key: the layers of the step's result, lowest first, here or anywhere. */
  stepLayers(scope: Scope): ReadonlyMap<Digest, readonly BlobInfo[]>

  /** Called whenever a scope has another set of fragments than before. */
  onChange(listener: (scope: Scope) => void): Disposable

  /** Forgets the scope's fragments (their blobs belong to the store). */
  reset(scope: Scope): Promise<void>
}

export interface ReadyOptions {
  /** Keys of the build's steps: when the record is larger than what BuildKit reads, what they need comes first. */
  steps?: ReadonlySet<Digest>
  signal: AbortSignal
}

export interface KeepResult {
  fragment: Digest
  /** False when the same fragment was kept before. */
  added: boolean
}

export type Settled =
  | { readonly type: 'kept' }
  /** In one line: why it is on this node only. */
  | { readonly type: 'kept here only'; readonly reason: string }

export interface ComposedRecord extends Disposable {
  /** Manifest (tag `record`) and config, for a read grant. */
  readonly documents: readonly GrantDocument[]
  readonly records: number
  readonly layers: number
  /** Cached results that are known and that nobody can deliver, one line each, at most ten. */
  readonly lacked: readonly string[]
  readonly pin: Pin
  /** Any blob that a fragment of the scope names, whether or not it is served: it is the scope's, wherever it is. */
  promised(digest: Digest): BlobInfo | undefined
}

/** The tag under which a composed record is served and a fragment is pushed. */
export const recordTag = 'record'

export { createRecords, type RecordsDeps, type RecordsOptions } from './fragments.ts'
export { lackedLine } from './lacked.ts'
