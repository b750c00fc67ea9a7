/**
 * The object store behind all nodes: what outlives every machine. Blobs lie there by digest; a fragment of a scope
 * lies beside them once all its blobs do, signed by the node that made it, and is what proves that a blob is the scope's.
 *
 *   blobs/sha256/<hex>                     bytes as they are
 *   fragments/<project>/<line>/<hex>       a head with the signed statement (mesh/fragments), then the fragment
 *   fragments/<project>/<line>/mount-<hex> the same of a cache mount's snapshot
 *   sweeps/<id>                            what a sweep is about to remove (docs/decisions/s3-tier.md)
 *
 * Promises:
 * - Writing is behind: nobody waits for it, it is bounded, and it goes on after a restart.
 * - A missing or damaged object is a miss. Trouble with the object store is never a failed build.
 * - The sweep removes nothing that a fragment younger than the age limit needs, nor what is being uploaded.
 *
 * Whose a blob is, this room does not know: who asks for one has a fragment of the scope that names it, and has
 * checked who signed that.
 */
import type { Readable } from 'node:stream'
import type { Digest } from '../../../core/digest.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { FaultReason } from '../../../mesh/exchange/index.ts'
import type { SignedFragment } from '../../../mesh/fragments/index.ts'
import type { BlobInfo, CacheStore } from '../index.ts'

export interface S3Tier extends AsyncDisposable {
  /** For people and reports: "s3". */
  readonly name: string
  /**
   * Queues the blobs of the store, then the fragment. Resolves when all of it is there; with a fragment that is there
   * already, it counts as touched from now on.
   * @throws HearthError when it was given up: `not-found` when a blob was evicted before it was uploaded, `exhausted`
   *   when newer fragments took its place in the queue, `invalid-input` when it is too large. `cancelled` when the
   *   node stops: the upload goes on with its next start.
   */
  keep(scope: Scope, fragment: StoredFragment): Promise<void>
  /** Fragments of the scope and kind (default `record`) that are there, newest listing; verified by nobody yet. Empty when it cannot be reached. */
  fragments(
    scope: Scope,
    options: { kind?: FragmentKind; known: ReadonlySet<Digest>; signal: AbortSignal },
  ): Promise<StoredFragment[]>
  /**
   * Whether the blob is believed to be there: it was uploaded, or a listed fragment names it. Nothing is while the
   * object store cannot be reached.
   */
  has(digest: Digest): boolean
  /**
   * A URL that answers range requests for the blob for some minutes, without credentials.
   * @throws HearthError when none can be made; `read` may still work.
   */
  urlOf(digest: Digest): Promise<string>
  /**
   * The blob's bytes, verified by nobody, for where `urlOf` does not help. Undefined when it is not there.
   * @throws HearthError when the object store cannot be reached; the stream fails when it breaks off.
   */
  read(blob: BlobInfo, options: { signal: AbortSignal }): Promise<Readable | undefined>
  /** What came of a URL: corrects what is believed to be there, and whether it is asked at all for a while. */
  reportFault(digest: Digest, fault: { reason: FaultReason; message: string }): void
  /** Removes what nobody needs. Several nodes may do so at the same time. */
  sweep(options: { signal: AbortSignal }): Promise<{ objects: number; bytesFreed: number }>
  /**
   * Removes the fragments of all lines of a project, here also those that wait to be uploaded. Their blobs go with
   * a sweep.
   * @throws HearthError when the object store cannot be reached.
   */
  reset(project: string, options: { signal: AbortSignal }): Promise<void>
  state(): S3TierState
}

/** Both are documents that name the blobs of a scope, signed by who made them. */
export type FragmentKind = 'record' | 'mount'

export interface StoredFragment {
  /** Default `record`. */
  readonly kind?: FragmentKind
  readonly statement: SignedFragment
  /** As the records write it. */
  readonly bytes: Uint8Array
  /** Every layer that its results are made of. */
  readonly blobs: readonly BlobInfo[]
}

export interface S3TierState {
  readonly queuedFragments: number
  /** Of the blobs that those fragments still need there. */
  readonly queuedBytes: number
  /** In one line with the remedy; absent when the last request was answered. */
  readonly trouble?: string
}

export interface S3TierDeps {
  store: Pick<CacheStore, 'pin' | 'open'>
  log: Logger
}

export interface S3TierOptions {
  /** `s3://bucket` or `s3://bucket/prefix`. */
  url: string
  /** For anything but AWS: `https://host:port`; buckets are then in the path. TLS of an own authority: NODE_EXTRA_CA_CERTS. */
  endpoint?: string
  /** Default: what the environment of the SDK says, else us-east-1. */
  region?: string
  /** Its own: the queue, and what is believed to be there. */
  folder: string
  /** Default: the SDK's chain (environment, profile, web identity, instance). */
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string }
  limits?: Partial<S3TierLimits>
}

/** All nodes of one bucket should have the same ages. */
export interface S3TierLimits {
  /** Blobs on their way at once. Default 3. */
  uploadsMax: number
  /** All uploads together. Default: no limit. */
  uploadBytesPerS: number
  /** A larger blob goes in parts of this size; two parts of each are in memory. Default 8 MiB, at least 5. */
  partBytes: number
  /** Fragments that wait; the oldest gives way. Default 1,000. */
  queuedFragmentsMax: number
  /** A fragment that nobody has kept again for this long is swept. Default 30 days. */
  untouchedMs: number
  /** A blob younger than this is never swept. Default 24 hours. */
  graceMs: number
  /** How often one of the nodes sweeps; 0: none does by itself. Default 24 hours. */
  sweepEveryMs: number
  /** For TCP and TLS together. Default 3 s. */
  connectMs: number
  /** Without a byte for this long a request is given up. Default 20 s. */
  stallMs: number
  /** How long it is left alone after trouble: at first, and at the most. Defaults 1 s, 5 min. */
  restMs: number
  restMsMax: number
}

export { createS3Tier } from './s3-tier.ts'
