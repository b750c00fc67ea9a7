/** One request under a live grant: what every handler needs, and the answers that several of them give. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Digest } from '../../../core/digest.ts'
import type { LiveGrant } from './grants.ts'
import type { Shelf } from './manifest-table.ts'
import type { Repository } from './routes.ts'

export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  readonly query: URLSearchParams
  readonly repository: Repository
  readonly grant: LiveGrant
  /** Aborted when the client goes away before it has its answer. */
  readonly signal: AbortSignal
}

export type Handler = (exchange: Exchange) => Promise<void> | void

/** An answer without a body. */
export function answer(
  response: ServerResponse,
  status: number,
  headers: OutgoingHttpHeaders = {},
): void {
  response.writeHead(status, status === 204 || status === 304 ? headers : withLength(headers))
  response.end()
}

function withLength(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return { 'content-length': 0, ...headers }
}

/** Paths in answers carry no host: the client knows it under a name that we need not know. */
export function repositoryPath(repository: Repository): string {
  return `/v2/${repository.capability}/${repository.name}`
}

/** Where the repository's tags and manifests are kept, if they are. */
export function shelfOf({ grant, repository }: Exchange): Shelf {
  return { scope: grant.scope, name: repository.name }
}

export function blobPath(repository: Repository, digest: Digest): string {
  return `${repositoryPath(repository)}/blobs/${digest}`
}

/** Content is named by its digest, so its entity tag never changes. */
export function entityTag(digest: Digest): string {
  return `"${digest}"`
}
