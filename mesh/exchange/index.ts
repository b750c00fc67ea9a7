/**
 * "Bring me this blob": from several sources at once, to a verified file. The direct road carries bulk: HTTP
 * range requests over mutual TLS between two nodes of one coordinator, in a thread of its own, so that the node's
 * event loop stays free; streams of the mesh are the other road, where that one is closed. Every byte is hashed before anybody else sees the file. A source that lies, stalls or
 * cannot be reached is set aside for a while; a blob is fetched once however many ask for it.
 */
import type { Digest } from '../../core/digest.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import type { Logger } from '../../core/log.ts'
import type { Scope } from '../../core/scope.ts'
import type { MeshHost } from '../host/index.ts'

export interface Exchange extends AsyncDisposable {
  /** Where peers reach the direct road. */
  readonly port: number
  /**
   * Fetches a blob into a new file. Whatever is wrong with the sources is an outcome, not an error; then the file is gone.
   * @throws HearthError `cancelled`, `exhausted` when the disk is full, `deadline` when it takes longer than the limit.
   */
  fetch(request: FetchRequest): Promise<FetchOutcome>
  /** Who may open connections from now on; those of others are closed. */
  setMembers(nodeIds: Iterable<string>): void
  /** New connections use the new certificate. */
  replaceIdentity(identity: TlsIdentity): void
}

export interface ExchangeDeps {
  blobs: ServedBlobs
  /** The mesh's streams: the road that is left when the direct one is closed. Without them there is none. */
  streams?: PeerStreams
  log: Logger
}

export interface ExchangeOptions {
  host: string
  /** 0: any free port. */
  port: number
  identity: TlsIdentity
  /** What all peers together are sent. Default: no limit. */
  uploadBytesPerS?: number
  limits?: Partial<TransferLimits>
}

export type PeerStreams = Pick<MeshHost, 'handle' | 'open' | 'member'>

/** What this node has to give. */
export interface ServedBlobs {
  /** A file that holds the whole blob and does not change; it may vanish. Undefined is a no. */
  find(scope: Scope, digest: Digest): { file: string; size: number } | undefined
}

export interface FetchRequest {
  scope: Scope
  digest: Digest
  /** In bytes. */
  size: number
  /** Made by this call; the caller takes it or removes it. */
  file: string
  /** Best first. */
  sources: readonly BlobSource[]
  /** Whether the file's bytes are to be on disk (fdatasync) by then. Default false. */
  isSynced?: boolean
  signal: AbortSignal
}

export type BlobSource =
  | {
      readonly type: 'node'
      readonly nodeId: string
      readonly host: string
      readonly port: number
      /** libp2p's name of it: for the log, and for the road that is left when the direct one is closed. */
      readonly peerId?: string
    }
  /** Anything that answers range requests for exactly this blob, for example a presigned URL of S3. */
  | { readonly type: 'url'; readonly name: string; readonly url: string }

export type FetchOutcome =
  | {
      readonly type: 'fetched'
      /** Received from each source, by node id or name. */
      readonly bytesBySource: ReadonlyMap<string, number>
      /** By source, how it was reached. */
      readonly roads: ReadonlyMap<string, Road>
      readonly faults: readonly SourceFault[]
    }
  | { readonly type: 'failed'; readonly faults: readonly SourceFault[] }

/** `direct`: TLS between two nodes; `stream`: libp2p, where the direct road is closed; `url`: an object store's HTTP. */
export type Road = 'direct' | 'stream' | 'url'

/** What was wrong with one source. */
export interface SourceFault {
  readonly source: string
  readonly reason: FaultReason
  readonly message: string
}

export type FaultReason =
  | 'unreachable'
  /** It does not have the blob: the advert was old. */
  | 'absent'
  | 'refused'
  /** It accepted, and then said nothing for too long. */
  | 'stalled'
  /** It said nothing for longer than it usually does, and another brought what it was asked for. */
  | 'slow'
  | 'broken off'
  /** What it sent does not hash to the digest. */
  | 'wrong bytes'
  /** It was set aside after an earlier fault. */
  | 'set aside'

export interface TransferLimits {
  /** For TCP and TLS together, or for a stream. Default 3 s. */
  connectMs: number
  /**
   * Without progress for this long another source is asked for the same piece: for a source that is not known yet.
   * Then for twice as long as it usually takes, between 0.4 and 4 times this. Default 500 ms.
   */
  hedgeMs: number
  /** Without progress (16 KiB) for this long a source is given up. Default 5 s. */
  stallMs: number
  /** What one source is asked for at a time. Default 8 MiB. */
  pieceBytes: number
  /** How long a source stays aside after its first fault; twice as long after each further one. Default 10 s. */
  asideMs: number
}

export { createExchange } from './exchange.ts'
