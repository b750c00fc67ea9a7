/**
 * Keeps trying to be connected to every member that is to be kept, forever. libp2p's own reconnecting gives up after 31 s and
 * forgets that it was asked to.
 *
 * The lower of the two peer ids dials at once. The higher leaves it a moment first, because the lower may not
 * know of it yet: the coordinator told the newcomer of the others before it told the others of the newcomer.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { courtesyMs, dialsMax, redialMsMax } from '../limits.ts'

export interface Redial {
  /** Starts with this peer unless it is under way. */
  watch(peerId: string): void
  /** Resolves when no dial is under way any more. */
  stop(): Promise<void>
}

export interface RedialDeps {
  isWanted(peerId: string): boolean
  isConnected(peerId: string): boolean
  /** Resolves once the peer is not connected. */
  whenGone(peerId: string, signal: AbortSignal): Promise<void>
  dial(peerId: string, signal: AbortSignal): Promise<void>
  log: Logger
}

export interface RedialOptions {
  ownPeerId: string
  /** Default: limits.ts. */
  redialMsMax?: number
  courtesyMs?: number
}

const firstMs = 250
/** Failures in a row. */
const doubtfulAfter = 2

export function createRedial(deps: RedialDeps, options: RedialOptions): Redial {
  const mostMs = options.redialMsMax ?? redialMsMax
  const stopping = new AbortController()
  const { signal } = stopping
  const watched = new Map<string, Promise<void>>()
  const usual = createPlaces(dialsMax)
  const doubtful = createPlaces(dialsMax)

  async function watch(peerId: string): Promise<void> {
    let failures = 0
    for (;;) {
      const patienceMs = peerId < options.ownPeerId ? (options.courtesyMs ?? courtesyMs) : 0
      const backoffMs = failures === 0 ? 0 : Math.min(mostMs, firstMs * 2 ** Math.min(failures, 20))
      await sleep(withJitter(patienceMs + Math.max(backoffMs, firstMs / 5)), undefined, {
        signal,
        ref: false,
      })
      if (!deps.isWanted(peerId)) return
      if (!deps.isConnected(peerId)) {
        // Machines that are switched off hold a place for long, and must not keep the others waiting.
        const places = failures < doubtfulAfter ? usual : doubtful
        await using _place = await places.enter()
        signal.throwIfAborted()
        try {
          await deps.dial(peerId, signal)
          places.widen()
        } catch (error) {
          places.narrow()
          failures += 1
          deps.log[failures === 1 ? 'info' : 'debug'](
            { peer: peerId, failures, reason: describeError(error) },
            'a peer cannot be reached',
          )
          continue
        }
      }
      failures = 0
      await deps.whenGone(peerId, signal)
    }
  }

  return {
    watch(peerId) {
      if (watched.has(peerId) || signal.aborted) return
      const done = watch(peerId)
        .catch((error: unknown) => {
          if (!signal.aborted) deps.log.error({ peer: peerId, error }, 'redialling ended')
        })
        .finally(() => watched.delete(peerId))
      watched.set(peerId, done)
    },
    async stop() {
      stopping.abort()
      await Promise.all(watched.values())
    },
  }
}

/** Between the half and the whole, so that peers that lost each other together do not come together. */
function withJitter(ms: number): number {
  return ms / 2 + (Math.random() * ms) / 2
}

interface Places {
  enter(): Promise<AsyncDisposable>
  widen(): void
  narrow(): void
}

/**
 * At most so many inside at once; the others wait in the order they came. Where dials fail it is for one at a time,
 * until one succeeds: a machine that is so busy that no handshake ends in time is not helped by more of them.
 */
function createPlaces(most: number): Places {
  let limit = most
  let inside = 0
  const waiting: (() => void)[] = []

  function letIn(): void {
    while (inside < limit) {
      const next = waiting.shift()
      if (next === undefined) return
      inside += 1
      next()
    }
  }

  return {
    async enter() {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.push(resolve)
      letIn()
      await promise
      return {
        async [Symbol.asyncDispose]() {
          inside -= 1
          letIn()
        },
      }
    },
    widen() {
      limit = Math.min(most, limit + 1)
      letIn()
    },
    narrow() {
      limit = 1
    },
  }
}
