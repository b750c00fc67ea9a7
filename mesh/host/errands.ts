/**
 * Something to do with each of some peers for as long as they are connected: always on the newest connection, and
 * tried again, later each time, when it ends.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { redialMsMax } from '../limits.ts'
import type { MeshHost, PeerEvent } from './index.ts'

export interface Errands extends AsyncDisposable {
  /** Asks again with whom. */
  reconsider(): void
}

export interface ErrandOptions {
  with: (peer: Extract<PeerEvent, { type: 'connected' }>) => boolean
  /**
   * Until it is over or fails.
   * @param errand.works to be called when it does what it is for: the next try comes soon again.
   */
  run: (errand: { peerId: string; signal: AbortSignal; works: () => void }) => Promise<void>
  /** Called once the peer is left alone, until the next time. */
  ended?: (peerId: string) => void
  /** For the log, when it fails. */
  failed: string
}

const firstRetryMs = 200

export function createErrands(
  deps: { host: Pick<MeshHost, 'onPeer'>; log: Logger },
  options: ErrandOptions,
): Errands {
  const { host, log } = deps
  const connected = new Map<string, Extract<PeerEvent, { type: 'connected' }>>()
  const running = new Map<string, AbortController>()
  const ending = new Set<Promise<void>>()

  async function repeat(peerId: string, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const works = () => {
        failures = 0
      }
      try {
        await options.run({ peerId, signal, works })
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        log.info({ peer: peerId, reason: describeError(error) }, options.failed)
      }
      const mostMs = Math.min(redialMsMax, firstRetryMs * 2 ** Math.min(failures, 20))
      await sleep(mostMs / 2 + (Math.random() * mostMs) / 2, undefined, {
        signal,
        ref: false,
      }).catch(() => {})
    }
  }

  function start(peerId: string): void {
    const stopping = new AbortController()
    running.set(peerId, stopping)
    const done = repeat(peerId, stopping.signal)
      .catch((error: unknown) => log.error({ peer: peerId, error }, options.failed))
      .finally(() => ending.delete(done))
    ending.add(done)
  }

  function stop(peerId: string): void {
    const stopping = running.get(peerId)
    if (stopping === undefined) return
    running.delete(peerId)
    stopping.abort()
    options.ended?.(peerId)
  }

  const listening = host.onPeer((event) => {
    stop(event.peerId)
    connected.delete(event.peerId)
    if (event.type !== 'connected') return
    connected.set(event.peerId, event)
    if (options.with(event)) start(event.peerId)
  })

  return {
    reconsider() {
      for (const [peerId, event] of connected) {
        const isWanted = options.with(event)
        if (isWanted === running.has(peerId)) continue
        if (isWanted) start(peerId)
        else stop(peerId)
      }
    },
    async [Symbol.asyncDispose]() {
      listening[Symbol.dispose]()
      connected.clear()
      for (const peerId of [...running.keys()]) stop(peerId)
      await Promise.all(ending)
    },
  }
}
