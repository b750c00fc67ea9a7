/**
 * The pull-through mirror: public images of the named registries, kept in the cache store once per node, so
 * that they outlive BuildKit's state and serve every scope. BuildKit asks here first and goes to the registry
 * itself, with the client's credentials, for whatever is answered with 404.
 *
 * Promises:
 * - Only what a registry gives to anybody is kept: every request to it is anonymous, and a request that
 *   carries credentials is answered with 404. Private images never land here.
 * - Only this room writes what it keeps; bytes are kept when they hash to their digest.
 * - A tag is asked for at its registry every time. Without an answer there is 404: nothing stale is served.
 * - Requests go to the named registries, and on to where they redirect: https and public addresses only.
 * - A blob is fetched once, however many ask; readers follow the fetch and see its end only when the bytes
 *   are verified.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../../../../core/log.ts'
import type { Scope } from '../../../../core/scope.ts'
import type { CacheStore } from '../../../cache-store/index.ts'
import type { ManifestTable } from '../manifest-table.ts'
import type { Route } from '../routes.ts'

export interface Mirror extends AsyncDisposable {
  /** First component of its repositories: unguessable, as a grant's. */
  readonly capability: string
  /** By host of a registry, as image names have it: the path of its mirror on the loopback registry. */
  readonly paths: ReadonlyMap<string, string>
  serve(request: MirrorRequest): Promise<void>
}

export interface MirrorRequest {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  readonly route: Exclude<Route, { type: 'ping' | 'unknown' }>
  /** Aborted when the client goes away before it has its answer. */
  readonly signal: AbortSignal
}

export interface MirrorDeps {
  store: CacheStore
  manifests: ManifestTable
  log: Logger
}

export interface MirrorOptions {
  /** For fetches under way; on the store's file system. Its own, emptied at the start. */
  folder: string
  /** Hosts of registries, as image names have them. Default: `defaultUpstreams`. */
  upstreams?: readonly string[]
  /** A registry must begin to answer within this time. Default 10 s. */
  answerMs?: number
  /** A fetch on which nothing moves for so long is tried again. Default 30 s. */
  stallMs?: number
  /** A fetch takes no longer. Default 1 hour. */
  fetchMs?: number
  /** Larger blobs are left to BuildKit. Default 20 GiB. */
  blobBytesMax?: number
  /** Fetches of blobs at once; what comes on top is left to BuildKit. Default 64. */
  fetchesMax?: number
  /** A fetch that nobody follows any more is given up after this time. Default 10 s. */
  unreadMs?: number
}

/** The registries that most base images come from. */
export const defaultUpstreams: readonly string[] = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'gcr.io',
  'registry.k8s.io',
  'public.ecr.aws',
  'mcr.microsoft.com',
]

/** Owner of what the mirror keeps. No project can be called so (core/scope.ts), so no build can write there. */
export const mirrorScope: Scope = { project: '_mirror', line: 'public' }

export { createMirror } from './mirror.ts'
