/** Asks publishers themselves for what no hub has: a few at a time, each until it has told what is lacking. */
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { isNewer, logProtocol, type NewsDesk, readNews } from '../adverts/index.ts'
import type { Position } from '../digest-index/index.ts'
import type { MeshHost } from '../host/index.ts'
import { pullStallMs, pullsMax } from '../limits.ts'

export interface Pulls extends AsyncDisposable {
  /** Soon, unless it is known by then. */
  want(publisher: string, position: Position): void
}

/** A publisher that could not be asked is asked again, later each time. */
const retryMs = 2_000
const retryMsMax = 5 * 60_000

export function createPulls(
  deps: {
    host: MeshHost
    desk: NewsDesk
    /** Nobody else is worth a dial: what the dead hold is left out anyway. */
    isPresent: (peerId: string) => boolean
    log: Logger
  },
  options: { stallMs?: number; retryMs?: number } = {},
): Pulls {
  const { host, desk, isPresent, log } = deps
  const stopping = new AbortController()
  const wanted = new Map<string, Position>()
  const asking = new Map<string, Promise<void>>()
  const failed = new Map<string, { times: number; againAtMs: number }>()
  const firstRetryMs = options.retryMs ?? retryMs

  const isLacking = (publisher: string): boolean => {
    const position = wanted.get(publisher)
    return position !== undefined && isNewer(position, desk.positionOf(publisher))
  }

  async function ask(publisher: string): Promise<void> {
    const enough = new AbortController()
    let stalled = setTimeout(() => enough.abort(), options.stallMs ?? pullStallMs)
    try {
      const signal = AbortSignal.any([stopping.signal, enough.signal])
      const stream = await host.open(publisher, logProtocol, { signal })
      try {
        await readNews({ desk, log }, stream, {
          ...{ peerId: publisher, signal },
          taken() {
            clearTimeout(stalled)
            if (isLacking(publisher)) {
              stalled = setTimeout(() => enough.abort(), options.stallMs ?? pullStallMs)
            } else enough.abort()
          },
        })
      } finally {
        stream.abort('that was all')
      }
    } catch (error) {
      if (stopping.signal.aborted || !isLacking(publisher)) return
      const times = (failed.get(publisher)?.times ?? 0) + 1
      const waitMs = Math.min(retryMsMax, firstRetryMs * 2 ** Math.min(times, 20))
      failed.set(publisher, { times, againAtMs: performance.now() + waitMs })
      log.info({ peer: publisher, reason: describeError(error) }, 'the log of a peer was not had')
    } finally {
      clearTimeout(stalled)
    }
  }

  function goOn(): void {
    for (const publisher of wanted.keys()) {
      if (asking.size >= pullsMax || stopping.signal.aborted) return
      if (!isLacking(publisher) || host.member(publisher) === undefined) {
        wanted.delete(publisher)
        failed.delete(publisher)
      } else if (!asking.has(publisher) && isPresent(publisher) && !isTooSoon(publisher)) {
        const done = ask(publisher).finally(() => {
          asking.delete(publisher)
          goOn()
        })
        asking.set(publisher, done)
      }
    }
  }

  function isTooSoon(publisher: string): boolean {
    const again = failed.get(publisher)
    return again !== undefined && performance.now() < again.againAtMs
  }

  const retrying = setInterval(goOn, firstRetryMs).unref()

  return {
    want(publisher, position) {
      if (publisher === host.peerId || host.member(publisher) === undefined) return
      const known = wanted.get(publisher)
      if (known === undefined || isNewer(position, known)) wanted.set(publisher, position)
      goOn()
    },
    async [Symbol.asyncDispose]() {
      stopping.abort()
      clearInterval(retrying)
      await Promise.all(asking.values())
    },
  }
}
