/** One connection to whoever has the blob, as a download sees it: ranges in, blocks out. */
import type { FaultReason, Road } from './index.ts'

export interface SourceConnection extends Disposable {
  readonly road: Road
  /**
   * Reads a range; one at a time.
   * @param range `start` inclusive, `end` exclusive, not empty.
   * @param onBlock is given full blocks (the last may be shorter) in order, with their position in the blob. The
   *   block is the callee's until its promise resolves; a few may be in its hands at once.
   * @throws SourceFailure, or what `onBlock` threw
   */
  read(range: { start: number; end: number }, onBlock: BlockSink): Promise<void>
  /** Bytes received so far: how progress is seen. */
  readonly bytesReceived: number
}

export type BlockSink = (block: Buffer, bytes: number, position: number) => Promise<void>

export class SourceFailure extends Error {
  readonly reason: FaultReason

  constructor(reason: FaultReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SourceFailure'
    this.reason = reason
  }
}

/** Whatever was thrown while talking to a source, as a failure of that source. */
export function toSourceFailure(error: unknown, otherwise: FaultReason): SourceFailure {
  if (error instanceof SourceFailure) return error
  const message = error instanceof Error ? error.message : String(error)
  return new SourceFailure(otherwise, message, { cause: error })
}
