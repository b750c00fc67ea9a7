/**
 * The one door through which blobs come: this node's disk, then peers, then the object store; each blob once
 * however many ask. The registry, the records and the prefetch ask here and know nothing of what lies behind it.
 *
 * Promises:
 * - What is brought is verified and in the cache store, for the scope that asked, before anybody sees it.
 * - An answer about elsewhere is a price, never a promise; `bring` may still say no, and that is no error.
 */
import type { Scope } from '../../../core/scope.ts'
import type { BlobInfo } from '../index.ts'

export interface BlobSources extends AsyncDisposable {
  /** Without asking anybody: microseconds. Undefined: nobody is known to have it for this scope. */
  whereabouts(scope: Scope, blob: BlobInfo): Whereabouts | undefined
  /**
   * Resolves when the blob is in the store, or nobody could give it. Best sources first; one that fails is passed over.
   * @throws HearthError `cancelled`, `exhausted` when this node's disk is full.
   */
  bring(scope: Scope, blob: BlobInfo, options: { signal: AbortSignal }): Promise<Brought>
}

/** `held`: in this node's store; `near`: a living peer says so; `far`: in the object store. */
export type Whereabouts = 'held' | 'near' | 'far'

export type Brought =
  | { readonly type: 'held' }
  /** By where: a node's id, or the object store's name. */
  | { readonly type: 'brought'; readonly bytesBySource: ReadonlyMap<string, number> }
  /** In one line: who was asked, and what they said. */
  | { readonly type: 'missed'; readonly reason: string }
