/**
 * Tells whoever watches the store what comes and goes, in the order of the commits: called in the turn in which
 * a commit is known, so that of a blob that goes and comes back the last word is the right one.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Digest } from '../../core/digest.ts'
import type { Logger } from '../../core/log.ts'
import type { BlobInfo, BlobWatcher } from './index.ts'

export interface BlobNews {
  watch(watcher: BlobWatcher): Disposable
  gained(blob: BlobInfo): void
  lost(digests: readonly Digest[]): void
  /** Resolves when everybody has dealt with the loss of this blob, or had the time to. Never rejects. */
  isHeard(digest: Digest): Promise<void>
}

/** @param options.lostMsMax how long the watchers may keep a lost blob's file on disk. */
export function createNews(deps: { log: Logger }, options: { lostMsMax: number }): BlobNews {
  const watchers = new Set<BlobWatcher>()
  const hearing = new Map<Digest, Promise<void>>()

  const withinLimit = async (answers: Promise<unknown>, blobs: number) => {
    using settled = abortedAtEnd()
    const late = delay(options.lostMsMax, 'late', { signal: settled.signal, ref: false })
    try {
      if ((await Promise.race([answers, late])) !== 'late') return
      deps.log.warn({ blobs, limitMs: options.lostMsMax }, 'blobs go before all have heard of it')
    } catch (error) {
      deps.log.warn({ blobs, error }, 'blobs go without all having heard of it')
    } finally {
      late.catch(() => undefined) // Ended by the signal.
    }
  }

  return {
    watch(watcher) {
      watchers.add(watcher)
      return { [Symbol.dispose]: () => void watchers.delete(watcher) }
    },
    gained(blob) {
      for (const watcher of watchers) {
        try {
          watcher.onGained(blob)
        } catch (error) {
          deps.log.warn({ error, digest: blob.digest }, 'who watches the cache store has failed')
        }
      }
    },
    lost(digests) {
      if (watchers.size === 0 || digests.length === 0) return
      const answers = Promise.all(Array.from(watchers, async (each) => each.beforeLost(digests)))
      const heard = withinLimit(answers, digests.length).finally(() => {
        for (const digest of digests) if (hearing.get(digest) === heard) hearing.delete(digest)
      })
      for (const digest of digests) hearing.set(digest, heard)
    },
    isHeard: async (digest) => hearing.get(digest),
  }
}

function abortedAtEnd(): Disposable & { signal: AbortSignal } {
  const controller = new AbortController()
  return { signal: controller.signal, [Symbol.dispose]: () => controller.abort() }
}
