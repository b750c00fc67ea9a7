/**
 * The one door through which blobs come: this node's disk, then peers, then the object store; each blob once
 * however many ask. The registry, the records and the prefetch ask here and know nothing of what lies behind it.
 *
 * Promises:
 * - What is brought is verified and in the cache store, for the scope that asked, before anybody sees it.
 * - An answer about elsewhere is a price, never a promise; `bring` may still say no, and that is no error.
 */
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { Exchange } from '../../../mesh/exchange/index.ts'
import type { Mesh } from '../../../mesh/index.ts'
import type { BlobInfo, CacheStore } from '../index.ts'
import type { S3Tier } from '../s3-tier/index.ts'

/** Whoever asks has proof that the blob is the scope's: a signed fragment of the scope names it. */
export interface BlobSources extends AsyncDisposable {
  /** Without asking anybody: microseconds. Undefined: nobody is known to have it for this scope. */
  whereabouts(scope: Scope, blob: BlobInfo): Whereabouts | undefined
  /**
   * Resolves when the blob is in the store, or nobody could give it. Best sources first; one that fails is passed over.
   * It may be evicted from the next turn of the event loop on: who needs it pins it at once.
   * @param options.isAhead nobody waits for it yet: it lets those pass that somebody waits for. Default false.
   * @throws HearthError `cancelled`, `exhausted` when this node's disk is full.
   */
  bring(
    scope: Scope,
    blob: BlobInfo,
    options: { isAhead?: boolean; signal: AbortSignal },
  ): Promise<Brought>
  counts(): SourceCounts
}

/** `held`: in this node's store; `near`: a living peer says so; `far`: in the object store. */
export type Whereabouts = 'held' | 'near' | 'far'

export type Brought =
  | { readonly type: 'held' }
  /** By where: a node's id, or the object store's name. */
  | { readonly type: 'brought'; readonly bytesBySource: ReadonlyMap<string, number> }
  /** In one line: who was asked, and what they said. */
  | { readonly type: 'missed'; readonly reason: string }

/** Since the start. */
export interface SourceCounts {
  /** Blobs. */
  readonly brought: number
  readonly missed: number
  /** By where: a node's id, or the object store's name. */
  readonly bytes: ReadonlyMap<string, number>
  readonly faults: ReadonlyMap<string, number>
}

/** What is absent now may be there later: each is looked at whenever a blob is asked for. */
export interface BlobSourcesDeps {
  readonly store: CacheStore
  /** Who holds what. Without it, or the exchange, nothing comes from peers. */
  readonly mesh?: Pick<Mesh, 'holdersOf'> | undefined
  readonly exchange?: Pick<Exchange, 'fetch'> | undefined
  readonly s3?: Pick<S3Tier, 'name' | 'has' | 'urlOf' | 'read' | 'reportFault'> | undefined
  readonly log: Logger
}

export interface BlobSourcesOptions {
  /** Blobs on their way at once, and of those the ones that nobody waits for yet. Defaults 16, 6. */
  fetchesMax?: number
  aheadMax?: number
  /** Peers that are asked for one blob. Default 6. */
  peersMax?: number
}

export { createSources } from './sources.ts'
