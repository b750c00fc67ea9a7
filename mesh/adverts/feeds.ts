/** A feed for every connected peer, always on its newest connection, tried again for as long as it is connected. */
import type { KeyObject } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { Position } from '../digest-index/index.ts'
import type { MeshHost } from '../host/index.ts'
import { epochAheadMsMax, epochGapMs, redialMsMax, snapshotsMax } from '../limits.ts'
import { feedPeer } from './feed.ts'
import type { AdvertLog } from './log.ts'
import { advertsProtocol } from './messages.ts'

export interface AdvertFeeds extends AsyncDisposable {
  /** How far each connected peer has acknowledged the own log. */
  acknowledged(): ReadonlyMap<string, Position>
}

export interface AdvertFeedsOptions {
  /** Default: the clock. */
  now?: () => number
  /** Default: limits.ts. */
  ackStallMs?: number
}

const firstRetryMs = 200

export function createAdvertFeeds(
  deps: { host: MeshHost; advertLog: AdvertLog; signingKey: KeyObject; log: Logger },
  options: AdvertFeedsOptions = {},
): AdvertFeeds {
  const { host, advertLog, signingKey, log } = deps
  const now = options.now ?? Date.now
  const feeds = new Map<string, { stop: AbortController; done: Promise<void> }>()
  const acknowledged = new Map<string, Position>()
  const places = createTurns(snapshotsMax)
  const ending = new Set<Promise<void>>()
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

  async function feed(peerId: string, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const stream = await host.open(peerId, advertsProtocol, { signal })
        await feedPeer({ log: advertLog, signingKey, snapshotTurn: places.enter, forked }, stream, {
          signal,
          acknowledged(position) {
            failures = 0
            acknowledged.set(peerId, position)
          },
          ...(options.ackStallMs === undefined ? {} : { ackStallMs: options.ackStallMs }),
        })
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        log.info({ peer: peerId, reason: describeError(error) }, 'a peer gets no adverts for now')
      }
      const mostMs = Math.min(redialMsMax, firstRetryMs * 2 ** Math.min(failures, 20))
      await sleep(mostMs / 2 + (Math.random() * mostMs) / 2, undefined, {
        signal,
        ref: false,
      }).catch(() => {})
    }
  }

  function stop(peerId: string): void {
    const running = feeds.get(peerId)
    if (running === undefined) return
    feeds.delete(peerId)
    acknowledged.delete(peerId)
    running.stop.abort()
  }

  const listening = host.onPeer(({ type, peerId }) => {
    stop(peerId)
    if (type !== 'connected') return
    const stopping = new AbortController()
    const done = feed(peerId, stopping.signal)
      .catch((error: unknown) => log.error({ peer: peerId, error }, 'the adverts to a peer ended'))
      .finally(() => ending.delete(done))
    ending.add(done)
    feeds.set(peerId, { stop: stopping, done })
  })

  return {
    acknowledged: () => acknowledged,
    async [Symbol.asyncDispose]() {
      listening[Symbol.dispose]()
      for (const peerId of [...feeds.keys()]) stop(peerId)
      await Promise.all(ending)
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
