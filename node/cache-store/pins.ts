/**
 * Pins: promises to builds that a blob stays. They are counts in memory and end with the process.
 *
 * A pin is given and asked about without waiting, so that no removal can slip in between.
 */
import type { Digest } from '../../core/digest.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobInfo, Pin } from './index.ts'
import type { Holding } from './index-keys.ts'

export interface PinCounts {
  isPinned(digest: Digest): boolean
  isPinnedBy(holding: Holding): boolean
  add(holding: Holding): void
  release(holding: Holding): void
  /** Keeps a blob from being evicted until disposal, and lets nobody see it who did not before. */
  guard(digest: Digest): Disposable
}

export function createPinCounts(): PinCounts {
  const byDigest = new Map<Digest, Map<ScopeId, number>>()
  const guarded = new Map<Digest, number>()
  return {
    isPinned: (digest) => byDigest.has(digest) || guarded.has(digest),
    isPinnedBy: ({ scope, digest }) => byDigest.get(digest)?.has(scope) ?? false,
    add({ scope, digest }) {
      const scopes = byDigest.get(digest) ?? new Map<ScopeId, number>()
      scopes.set(scope, (scopes.get(scope) ?? 0) + 1)
      byDigest.set(digest, scopes)
    },
    release({ scope, digest }) {
      const scopes = byDigest.get(digest)
      const count = scopes?.get(scope)
      if (scopes === undefined || count === undefined) return
      if (count > 1) scopes.set(scope, count - 1)
      else scopes.delete(scope)
      if (scopes.size === 0) byDigest.delete(digest)
    },
    guard(digest) {
      guarded.set(digest, (guarded.get(digest) ?? 0) + 1)
      return {
        [Symbol.dispose]() {
          const left = (guarded.get(digest) ?? 0) - 1
          if (left > 0) guarded.set(digest, left)
          else guarded.delete(digest)
        },
      }
    },
  }
}

/**
 * @param deps.sees the size of a blob that the scope may have, at this instant.
 * @param deps.used told at the beginning and at the end: a blob was in use for as long as it was pinned.
 * @param deps.released told after each release.
 */
export function createPin(
  deps: {
    pins: PinCounts
    sees: (holding: Holding) => number | undefined
    used: (holding: Holding) => void
    released: (digest: Digest) => void
  },
  scope: ScopeId,
): Pin {
  const held = new Map<Digest, BlobInfo>()
  let disposed = false
  return {
    held,
    add(digests) {
      const found: BlobInfo[] = []
      if (disposed) return found
      for (const digest of digests) {
        const size = deps.sees({ scope, digest })
        if (size === undefined) continue
        found.push({ digest, size })
        if (held.has(digest)) continue
        held.set(digest, { digest, size })
        deps.pins.add({ scope, digest })
        deps.used({ scope, digest })
      }
      return found
    },
    [Symbol.dispose]() {
      if (disposed) return
      disposed = true
      for (const digest of held.keys()) {
        deps.used({ scope, digest })
        deps.pins.release({ scope, digest })
        deps.released(digest)
      }
    },
  }
}
