/** What a grant has pinned, blob by blob, so that one can be deleted while the others stay. */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { BlobInfo, CacheStore, Pin } from '../../cache-store/index.ts'

export interface GrantPins extends Disposable {
  /** Pins those that the scope holds, and returns them. */
  add(digests: Iterable<Digest>): BlobInfo[]
  drop(digest: Digest): void
}

export function createGrantPins(store: CacheStore, scope: Scope): GrantPins {
  const pins = new Map<Digest, Pin>()
  let disposed = false

  function add(digest: Digest): BlobInfo | undefined {
    const held = pins.get(digest)?.add([digest])[0]
    if (held !== undefined) return held
    const pin = store.pin(scope, [digest])
    const found = pin.held.get(digest)
    if (found === undefined) pin[Symbol.dispose]()
    else pins.set(digest, pin)
    return found
  }

  return {
    add(digests) {
      if (disposed) return []
      return Array.from(digests, add).filter((blob) => blob !== undefined)
    },
    drop(digest) {
      pins.get(digest)?.[Symbol.dispose]()
      pins.delete(digest)
    },
    [Symbol.dispose]() {
      disposed = true
      for (const pin of pins.values()) pin[Symbol.dispose]()
      pins.clear()
    },
  }
}
