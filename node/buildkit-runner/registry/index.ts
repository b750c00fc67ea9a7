/**
 * The loopback registry: how BuildKit reads and writes the cache store. An OCI distribution endpoint
 * (https://github.com/opencontainers/distribution-spec/blob/main/spec.md) whose repository paths begin
 * with a capability, so that whoever can name a repository may use it and nobody else learns it exists:
 * everything unknown or expired is a 404, never a 401, because BuildKit would ask the client to log in.
 */
import type { Server } from 'node:net'
import type { Digest } from '../../../core/digest.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import type { ManifestTable } from './manifest-table.ts'
import type { Mirror } from './mirror/index.ts'

export interface Registry extends AsyncDisposable {
  /** The port on 127.0.0.1; 0 when it does not listen by itself (see RegistryOptions.listen). */
  readonly port: number
  /**
   * Takes over a listener, wherever it is: a daemon's is in the daemon's own network namespace, where nobody
   * else can reach it. Disposing closes it and cuts its connections.
   */
  serve(listener: Server): Disposable
  grant(request: GrantRequest): Grant
}

export interface RegistryDeps {
  store: CacheStore
  log: Logger
  /**
   * Where BuildKit of this scope would keep this blob, if it has made it already: such a blob is taken over
   * by a verified hard link instead of an upload. Undefined when the scope has no running BuildKit.
   */
  contentFile: (scope: Scope, digest: Digest) => string | undefined
  /** Where promised blobs come from that are not in the store. Without it they are misses. */
  sources?: Pick<BlobSources, 'whereabouts' | 'bring'>
  /** Needed for grants whose tags are the scope's. */
  manifests?: ManifestTable
  /** Answers for public images of other registries. Its owner disposes it, after the registry. */
  mirror?: Mirror
}

export interface GrantRequest {
  scope: Scope
  right: 'read' | 'write'
  /**
   * Where its tags and manifests live. `of the grant` (the default) is for builds: tags go with the grant, and
   * nothing can be deleted. `of the scope` is for clients that push to keep: tags, manifests and referrers are
   * durable, by repository, and a writer may delete them, and blobs too.
   */
  tags?: 'of the grant' | 'of the scope'
  /** From now. The grant ends then, or when it is disposed. */
  lifetimeMs: number
  /** Extra documents that exist for this grant alone: the composed record. */
  documents?: readonly GrantDocument[]
  /**
   * Blobs that the scope's record names, wherever they are: who reads is brought those that are not here, who writes
   * need not push those that are anywhere. Default: of a reader the layers of its documents, of a writer none.
   */
  promised?: PromisedBlobs
}

/** What is promised of a digest, if anything is. */
export type PromisedBlobs = (digest: Digest) => BlobInfo | undefined

export interface GrantDocument {
  digest: Digest
  mediaType: string
  bytes: Uint8Array
  /** When it is a manifest: the tag it is found by. */
  tag?: string
}

/** One capability: what it allows, and what was done with it. */
export interface Grant extends Disposable {
  /** First component of the repository path: unguessable, lower-case hex. */
  readonly capability: string
  readonly scope: Scope
  readonly right: 'read' | 'write'
  /** Bytes of blobs sent to BuildKit, and taken from it by upload or by link. */
  readonly bytesRead: number
  readonly bytesUploaded: number
  readonly bytesLinked: number
  /** Bytes that came from elsewhere because a blob was asked for, by where (BlobSources.bring). */
  readonly bytesBrought: ReadonlyMap<string, number>
  /** Blobs asked for that could not be delivered in full. Not empty: the build that imported them is in doubt. */
  readonly undeliverable: ReadonlySet<Digest>
  /** The first error of this node's own that kept a blob from being stored; BuildKit tells of its consequences. */
  readonly trouble: unknown
  /** Manifests pushed under this grant, by tag. Empty when its tags are the scope's. */
  readonly pushed: ReadonlyMap<string, { digest: Digest; mediaType: string }>
}

export { type ManifestTable, openManifestTable } from './manifest-table.ts'
export { createMirror, defaultUpstreams, type Mirror, type MirrorOptions } from './mirror/index.ts'
export { promisesOf } from './promises.ts'
export { createRegistry, type RegistryOptions } from './registry.ts'
