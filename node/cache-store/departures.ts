/** The ways out, apart from eviction: a blob forgotten, a scope emptied, the last pin of what nobody owns. */
import type { Digest } from '../../core/digest.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobIndex } from './blob-index.ts'
import type { Holdings, Released } from './holdings.ts'
import type { Holding } from './index-keys.ts'
import type { PinCounts } from './pins.ts'
import type { Publication } from './publication.ts'
import type { Upkeep } from './upkeep.ts'

export interface Departures {
  remove(holding: Holding): Promise<void>
  /** @returns bytes of the blobs unlinked. */
  reset(scope: ScopeId): Promise<number>
  /** Told after each pin that ends. */
  dropIfLoose(digest: Digest): void
}

/** Blobs looked at in one turn of the event loop when a scope is reset. */
const resetSliceMax = 256

export function createDepartures(deps: {
  index: BlobIndex
  holdings: Holdings
  pins: PinCounts
  publication: Publication
  upkeep: Upkeep
}): Departures {
  const { index, holdings, pins, publication, upkeep } = deps
  /** Blobs that nobody owns, only pinned ones: they go with their last pin. */
  const loose = new Set<Digest>()

  const dropIfLoose = (digest: Digest) => {
    if (pins.isPinned(digest) || !loose.delete(digest)) return
    upkeep.background('remove a blob after its last pin', async () => {
      if ((await holdings.forgetLoose(digest)) !== undefined) await publication.sweep(digest)
    })
  }

  /** @returns bytes of the blobs unlinked. */
  const finish = async (released: readonly Released[]): Promise<number> => {
    const gone = released.filter((blob) => blob.fate === 'gone')
    await Promise.all(gone.map((blob) => publication.sweep(blob.digest)))
    for (const { digest, fate } of released) {
      if (fate !== 'pinned') continue
      loose.add(digest)
      // The pin may have ended while the transaction was on its way to disk.
      dropIfLoose(digest)
    }
    return gone.reduce((bytes, blob) => bytes + blob.size, 0)
  }

  return {
    dropIfLoose,
    async remove(holding) {
      await finish(await holdings.release([holding], { sparePinned: false }))
    },
    async reset(scope) {
      let bytesFreed = 0
      let after: Digest | undefined
      for (;;) {
        const page = index.blobsAfter(after, resetSliceMax)
        after = page.at(-1)?.digest
        if (after === undefined) return bytesFreed
        const owned = page
          .map(({ digest }) => ({ scope, digest }))
          .filter((holding) => holdings.owns(holding))
        bytesFreed += await finish(await holdings.release(owned, { sparePinned: false }))
      }
    },
  }
}
