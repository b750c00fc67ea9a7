/**
 * The object store behind all nodes: what outlives every machine. Blobs lie there by digest; a fragment of a scope
 * lies beside them once all its blobs do, signed by the node that made it, and is what proves that a blob is the scope's.
 *
 *   blobs/sha256/<hex>                     bytes as they are
 *   fragments/<project>/<line>/<hex>       the signed statement (mesh/fragments), then the fragment
 *
 * Promises:
 * - Writing is behind: nobody waits for it, it is bounded, and it goes on after a restart.
 * - A missing or damaged object is a miss. Trouble with the object store is never a failed build.
 * - The sweep removes nothing that a fragment younger than the age limit needs, nor what is being uploaded.
 */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { SignedFragment } from '../../../mesh/fragments/index.ts'
import type { BlobInfo } from '../index.ts'

export interface S3Tier extends AsyncDisposable {
  /** For people and reports: "s3". */
  readonly name: string
  /** Queues the blobs of the store, then the fragment. Resolves when all of it is there; rejects when it was given up. */
  keep(scope: Scope, fragment: StoredFragment): Promise<void>
  /** Fragments of the scope that are there, newest listing; verified by nobody yet. Empty when it cannot be reached. */
  fragments(
    scope: Scope,
    options: { known: ReadonlySet<Digest>; signal: AbortSignal },
  ): Promise<StoredFragment[]>
  /** Whether the blob is believed to be there: it was uploaded, or a listed fragment names it. */
  has(digest: Digest): boolean
  /** A URL that answers range requests for the blob for some minutes, without credentials. */
  urlOf(digest: Digest): Promise<string>
  sweep(options: { signal: AbortSignal }): Promise<{ objects: number; bytesFreed: number }>
}

export interface StoredFragment {
  readonly statement: SignedFragment
  /** As the records write it. */
  readonly bytes: Uint8Array
  /** Every layer that its results are made of. */
  readonly blobs: readonly BlobInfo[]
}
