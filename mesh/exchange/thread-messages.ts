/** What the node's event loop and the thread of the direct road tell each other. */
import type { MessagePort } from 'node:worker_threads'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import type { NamedBlob } from './bulk-paths.ts'
import type { DownloadRequest } from './download.ts'
import type { FetchOutcome } from './index.ts'
import type { Wait } from './patience.ts'

export interface ThreadStart {
  readonly host: string
  readonly port: number
  readonly identity: TlsIdentity
  readonly uploadBytesPerS: number | undefined
  readonly connectMs: number
  /** Whether there is a mesh to have streams of. */
  readonly hasStreams: boolean
}

export type ToThread =
  | { readonly type: 'members'; readonly nodeIds: ReadonlySet<string> }
  | { readonly type: 'identity'; readonly identity: TlsIdentity }
  | {
      readonly type: 'fetch'
      readonly id: number
      readonly request: Omit<DownloadRequest, 'signal'> & NamedBlob
    }
  | { readonly type: 'abort'; readonly id: number }
  | {
      readonly type: 'found'
      readonly id: number
      readonly blob: { file: string; size: number } | undefined
    }
  | { readonly type: 'stop' }

export type FromThread =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'not listening'; readonly message: string }
  | { readonly type: 'find'; readonly id: number; readonly blob: NamedBlob }
  | {
      readonly type: 'fetched'
      readonly id: number
      readonly outcome: FetchOutcome
      readonly waits: readonly Wait[]
    }
  /** A stream to this peer is wanted at the other end of the port. */
  | { readonly type: 'stream'; readonly peerId: string; readonly port: MessagePort }
  /** Our own trouble: the disk, mostly. */
  | { readonly type: 'threw'; readonly id: number; readonly code: string; readonly message: string }
  | { readonly type: 'refused'; readonly message: string }
