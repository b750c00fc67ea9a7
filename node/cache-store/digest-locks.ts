/** One at a time per digest, in the order of asking. Guards the pair of a blob's file and its row. */
import type { Digest } from '../../core/digest.ts'

export interface DigestLocks {
  /** Resolves when everybody before has let go. Never hold one while asking for another. */
  acquire(digest: Digest): Promise<Disposable>
}

export function createDigestLocks(): DigestLocks {
  const tails = new Map<Digest, Promise<void>>()
  return {
    async acquire(digest) {
      const before = tails.get(digest)
      const { promise, resolve } = Promise.withResolvers<void>()
      tails.set(digest, promise)
      await before
      return {
        [Symbol.dispose]() {
          if (tails.get(digest) === promise) tails.delete(digest)
          resolve()
        },
      }
    },
  }
}
