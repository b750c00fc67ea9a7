/** A feed of the own log for every neighbour, and for whoever comes to ask for it. */
import type { KeyObject } from 'node:crypto'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { Position } from '../digest-index/index.ts'
import { createErrands } from '../host/errands.ts'
import type { FramedStream, MeshHost } from '../host/index.ts'
import { epochAheadMsMax, epochGapMs, snapshotsMax } from '../limits.ts'
import { feedPeer } from './feed.ts'
import type { AdvertLog } from './log.ts'
import { advertsProtocol, logProtocol } from './messages.ts'

export interface AdvertFeeds extends AsyncDisposable {
  /** How far each neighbour has acknowledged the own log. */
  acknowledged(): ReadonlyMap<string, Position>
}

export interface AdvertFeedsOptions {
  /** Default: the clock. */
  now?: () => number
  /** Default: limits.ts. */
  ackStallMs?: number
}

export async function createAdvertFeeds(
  deps: { host: MeshHost; advertLog: AdvertLog; signingKey: KeyObject; log: Logger },
  options: AdvertFeedsOptions = {},
): Promise<AdvertFeeds> {
  const { host, advertLog, signingKey, log } = deps
  const now = options.now ?? Date.now
  const acknowledged = new Map<string, Position>()
  const places = createTurns(snapshotsMax)
  const stopping = new AbortController()
  const answering = new Set<Promise<void>>()
  let lastForkAtMs = Number.NEGATIVE_INFINITY

  async function forked(known: Position): Promise<void> {
    if (known.epoch > now() + epochAheadMsMax || performance.now() - lastForkAtMs < epochGapMs) {
      log.warn({ known }, 'a peer says to know more of our adverts than there can be')
      return
    }
    lastForkAtMs = performance.now()
    log.warn({ known }, 'the advert log is older than what peers know of it; it starts anew')
    await advertLog.startEpoch(known.epoch + 1)
  }

  function feed(
    stream: FramedStream,
    signal: AbortSignal,
    heard: (position: Position) => void,
  ): Promise<void> {
    return feedPeer({ log: advertLog, signingKey, snapshotTurn: places.enter, forked }, stream, {
      signal,
      acknowledged: heard,
      ...(options.ackStallMs === undefined ? {} : { ackStallMs: options.ackStallMs }),
    })
  }

  await host.handle(
    logProtocol,
    (stream, peerId) => {
      const done = feed(stream, stopping.signal, () => {})
        .catch((error: unknown) => {
          if (stopping.signal.aborted || stream.ended.aborted) return
          log.info({ peer: peerId, reason: describeError(error) }, 'a peer stops reading our log')
        })
        .finally(() => answering.delete(done))
      answering.add(done)
    },
    { streamsPerPeerMax: 2 },
  )
  const errands = createErrands(
    { host, log },
    {
      with: ({ isNeighbour }) => isNeighbour,
      async run({ peerId, signal, works }) {
        const stream = await host.open(peerId, advertsProtocol, { signal })
        await feed(stream, signal, (position) => {
          works()
          acknowledged.set(peerId, position)
        })
      },
      ended: (peerId) => acknowledged.delete(peerId),
      failed: 'a peer gets no adverts for now',
    },
  )

  return {
    acknowledged: () => acknowledged,
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await errands[Symbol.asyncDispose]()
      await Promise.all(answering)
    },
  }
}

/** At most so many at once; who gives up waiting loses its place. */
function createTurns(count: number): { enter(signal: AbortSignal): Promise<Disposable> } {
  let free = count
  const waiting = new Set<() => void>()
  const leave = () => {
    const [next] = waiting
    if (next === undefined) free += 1
    else {
      waiting.delete(next)
      next()
    }
  }
  return {
    async enter(signal) {
      signal.throwIfAborted()
      if (free > 0) free -= 1
      else {
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        const giveUp = () => {
          if (waiting.delete(resolve)) reject(signal.reason)
        }
        waiting.add(resolve)
        signal.addEventListener('abort', giveUp)
        await promise.finally(() => signal.removeEventListener('abort', giveUp))
      }
      return { [Symbol.dispose]: leave }
    },
  }
}
