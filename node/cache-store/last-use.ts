/**
 * When each holding was last used. Reads are many, so uses gather in memory and reach the index every few
 * seconds; a killed process forgets those of the last seconds, which only makes eviction a little less exact.
 */
import type { Logger } from '../../core/log.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { Accounts } from './accounts.ts'
import type { BlobIndex } from './blob-index.ts'
import type { Holding, Use } from './index-keys.ts'

export interface LastUse {
  /** Ms since 1970, whole. */
  now(): number
  touch(holding: Holding): void
  /** True when a use has not reached the index yet. */
  isPending(holding: Holding): boolean
  flush(): Promise<void>
  stop(): void
}

/** Holdings written in one transaction: some 2 ms of the event loop. */
const sliceMax = 256

/** So many uses are written at once rather than kept longer. */
const pendingMax = 50_000

export function createLastUse(
  deps: { index: BlobIndex; accounts: Accounts; log: Logger; clock: () => number },
  options: { flushMs: number },
): LastUse {
  let pending = new Map<string, Use>()
  let timer: NodeJS.Timeout | undefined
  let last: Promise<void> = Promise.resolve()
  const now = () => Math.floor(deps.clock())

  const write = (slice: Use[]) =>
    deps.index.write((rows) => {
      for (const use of slice) {
        const before = deps.index.lastUsedAtMs(use)
        // The holding may be gone by now, and a clock that was set back must not make it look older.
        if (before !== undefined && before < use.lastUsedAtMs) rows.putOwner(use)
      }
    })

  const writePending = async () => {
    const uses = [...pending.values()]
    pending = new Map()
    for (let start = 0; start < uses.length; start += sliceMax) {
      await write(uses.slice(start, start + sliceMax))
    }
  }
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    // After one that is under way: who waits for a flush waits for every use before it.
    const flushed = last.then(writePending)
    last = flushed.catch(() => undefined)
    return flushed
  }
  const flushLater = () => {
    flush().catch((error) => deps.log.warn({ error }, 'cannot note when blobs were last used'))
  }

  return {
    now,
    touch({ scope, digest }) {
      const use: Use = { scope, digest, lastUsedAtMs: now() }
      deps.accounts.used(scope, use.lastUsedAtMs)
      pending.set(nameOf(use), use)
      if (pending.size === pendingMax) flushLater()
      else timer ??= setTimeout(flushLater, options.flushMs).unref()
    },
    isPending: (holding) => pending.has(nameOf(holding)),
    flush,
    stop() {
      clearTimeout(timer)
    },
  }
}

function nameOf({ scope, digest }: Holding): `${ScopeId} ${string}` {
  return `${scope} ${digest}`
}
