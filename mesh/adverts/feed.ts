/**
 * One peer's reading of our log, over one stream. There is no queue: what the peer has is a position in the log,
 * and it is sent the next batch only while few are unacknowledged. Who falls behind what the log keeps gets a
 * snapshot.
 *
 *     asking ──have──▶ following ──batch not kept──▶ snapshot ──sent──▶ following
 *        every later `have` starts again from what it says
 */

import type { KeyObject } from 'node:crypto'
import { randomBytes } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import type { IndexKey, Position } from '../digest-index/index.ts'
import type { FramedStream } from '../host/index.ts'
import { ackStallMs, unackedBatchesMax } from '../limits.ts'
import { createBell } from './bell.ts'
import { changesMax, sealNews } from './envelope.ts'
import type { AdvertLog } from './log.ts'
import { decodeMessage, encodeMessage } from './messages.ts'

export interface FeedDeps {
  log: AdvertLog
  signingKey: KeyObject
  /** Waits for its turn: snapshots are the one thing that costs much. */
  snapshotTurn(signal: AbortSignal): Promise<Disposable>
  /** The peer knows more of our log than we do: our folder was put back to an older state. */
  forked(known: Position): Promise<void>
}

export interface FeedOptions {
  signal: AbortSignal
  /** Called with each acknowledgement. */
  acknowledged: (position: Position) => void
  ackStallMs?: number
}

/**
 * Feeds until the stream ends.
 * @throws HearthError what ended it; `deadline` when the peer acknowledges nothing any more.
 */
export async function feedPeer(
  deps: FeedDeps,
  stream: FramedStream,
  options: FeedOptions,
): Promise<void> {
  const { log } = deps
  const signal = AbortSignal.any([options.signal, stream.ended])
  const bell = createBell()
  const stallMs = options.ackStallMs ?? ackStallMs
  /** What the peer has or is being sent. */
  let sent: Position | undefined
  let acknowledged: Position = { epoch: 0, sequence: 0 }
  let lastWordAtMs = performance.now()

  async function listen(): Promise<void> {
    for (;;) {
      const frame = await stream.read({ signal })
      if (frame === undefined) throw new HearthError('unavailable', 'the peer ended the stream')
      const message = decodeMessage(frame)
      if (message.type === 'news') throw new HearthError('corrupt', 'the peer sends news here')
      if (message.publisher !== log.publisher) continue
      lastWordAtMs = performance.now()
      if (message.type === 'have') {
        sent = message.position
        acknowledged = message.position
        if (isAhead(message.position, log.position())) await deps.forked(message.position)
      } else {
        acknowledged = message.position
        options.acknowledged(message.position)
      }
      bell.ring()
    }
  }

  async function speak(): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      if (sent === undefined || !hasNews(sent) || isFull(sent)) {
        if (isWaiting() && performance.now() - lastWordAtMs > stallMs) {
          throw new HearthError(
            'deadline',
            `the peer has acknowledged nothing for ${stallMs / 1_000} s`,
          )
        }
        await bell.wait({ signal, limitMs: stallMs })
        continue
      }
      if (isUpToDate(sent)) lastWordAtMs = performance.now()
      await sendNext(sent)
    }
  }

  const hasNews = (from: Position) => {
    const { epoch, sequence } = log.position()
    return from.epoch !== epoch || from.sequence < sequence
  }
  const isUpToDate = (from: Position) =>
    from.epoch === acknowledged.epoch && from.sequence === acknowledged.sequence
  const isFull = (from: Position) =>
    from.epoch === acknowledged.epoch
      ? from.sequence - acknowledged.sequence >= unackedBatchesMax
      : from.epoch === log.position().epoch
  const isWaiting = () => sent === undefined || !isUpToDate(sent)

  async function sendNext(from: Position): Promise<void> {
    const { epoch } = log.position()
    const batch = from.epoch === epoch ? log.batch(from.sequence + 1) : undefined
    if (batch === undefined) return await sendSnapshot()
    await stream.write(encodeMessage({ type: 'news', sealed: batch }), { signal })
    // The peer may have asked for something else meanwhile.
    if (sent === from) sent = { epoch, sequence: from.sequence + 1 }
  }

  async function sendSnapshot(): Promise<void> {
    using _turn = await deps.snapshotTurn(signal)
    const from = sent
    const position = log.position()
    const id = randomBytes(8).toString('hex')
    let after: IndexKey | undefined
    for (let chunk = 0; ; chunk += 1) {
      const entries = log.entriesAfter(after, changesMax)
      const isLast = entries.length < changesMax
      const { publisher } = log
      const sealed = sealNews(
        { type: 'snapshot', publisher, position, id, chunk, isLast, entries },
        deps.signingKey,
      )
      await stream.write(encodeMessage({ type: 'news', sealed }), { signal })
      lastWordAtMs = performance.now()
      after = entries.at(-1)?.key
      if (isLast) break
    }
    if (sent === from) sent = position
  }

  using _listening = log.onChange(() => bell.ring())
  const both = Promise.all([listen(), speak()])
  try {
    await both
  } finally {
    stream.abort('the feed ended')
  }
}

function isAhead(known: Position, own: Position): boolean {
  return known.epoch > own.epoch || (known.epoch === own.epoch && known.sequence > own.sequence)
}
