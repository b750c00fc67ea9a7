/** What the thread and the event loop tell each other about one stream, over a port of its own. */
import type { FaultReason } from './index.ts'
import type { RangeAnswer, RangeRequest } from './stream-protocol.ts'

/** Frames that may be on their way to the thread, not yet taken. */
export const framesAheadMax = 4

export type ToRelay =
  | { readonly type: 'ask'; readonly request: RangeRequest }
  /** A frame was taken: one more may come. */
  | { readonly type: 'taken' }

export type FromRelay =
  | { readonly type: 'open' }
  | { readonly type: 'answer'; readonly answer: RangeAnswer }
  | { readonly type: 'bytes'; readonly bytes: Uint8Array }
  /** The stream is of no use any more. */
  | { readonly type: 'broken'; readonly reason: FaultReason; readonly message: string }
