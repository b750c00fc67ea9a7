/**
 * The steps in which a blob's file and its row change together, each one digest at a time:
 *
 *   publish   temporary file (synced) -> final name -> folder synced -> row
 *   sweep     row is gone -> watchers have heard -> file unlinked, unless a publish came in between
 *   condemn   file is bad or missing -> row removed -> watchers have heard -> file unlinked
 *   replace   another file with the same bytes (synced) -> final name, while the row stays
 *
 * A crash between two arrows leaves a file without a row (removed at the next start) or a row whose file is
 * whole, never a row over a torn file. Nobody unlinks a blob's file but `sweep` and `condemn`.
 */
import type { Digest } from '../../core/digest.ts'
import { toHearthError } from '../../core/errors.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobFiles } from './blob-files.ts'
import type { DigestLocks } from './digest-locks.ts'
import type { Holdings } from './holdings.ts'
import type { BlobInfo } from './index.ts'
import type { BlobNews } from './news.ts'

/** Where a crash hurts most: between the arrows above. */
export type CrashPoint =
  | 'temporary file synced'
  | 'file published'
  | 'row committed'
  | 'row removed'
  | 'file linked'

export interface Publication {
  /**
   * The temporary file, whose bytes hash to the digest and are synced, is used up or discarded.
   * @throws HearthError `exhausted` when the disk is full; the file is gone then too.
   */
  publish(scope: ScopeId, temporary: string, blob: BlobInfo): Promise<void>
  sweep(digest: Digest): Promise<void>
  /** The temporary file, whose bytes hash to the digest and are synced, takes the place of the blob's file. */
  replace(temporary: string, blob: BlobInfo): Promise<boolean>
  /** @param isBad asked once nobody else can change the file. Resolves to whether the blob went. */
  condemn(digest: Digest, isBad: () => Promise<boolean>): Promise<boolean>
}

export function createPublication(deps: {
  files: BlobFiles
  holdings: Holdings
  locks: DigestLocks
  news: BlobNews
  atPoint: (point: CrashPoint) => void | Promise<void>
}): Publication {
  const { files, holdings, locks, news, atPoint } = deps

  /** Somebody else was quicker: their file stays, so that whoever shares it on disk goes on sharing it. */
  const joinExisting = async (scope: ScopeId, { digest, size }: BlobInfo) =>
    holdings.size(digest) === size &&
    (await files.size(digest)) === size &&
    (await holdings.extend(scope, digest)) !== undefined

  return {
    async publish(scope, temporary, blob) {
      using _lock = await locks.acquire(blob.digest)
      try {
        if (await joinExisting(scope, blob)) return
        await atPoint('temporary file synced')
        await files.publish(temporary, blob.digest)
        await atPoint('file published')
        await holdings.record(scope, blob)
        await atPoint('row committed')
      } catch (error) {
        if (holdings.size(blob.digest) === undefined) await files.remove(blob.digest)
        throw toHearthError(error, 'publish a blob')
      } finally {
        // Renaming onto another link of the same file leaves both names (rename(2)).
        await files.discard(temporary)
      }
    },
    async sweep(digest) {
      await atPoint('row removed')
      await news.isHeard(digest)
      using _lock = await locks.acquire(digest)
      if (holdings.size(digest) === undefined) await files.remove(digest)
    },
    async replace(temporary, { digest, size }) {
      using _lock = await locks.acquire(digest)
      if (holdings.size(digest) !== size) return false
      await files.publish(temporary, digest)
      return true
    },
    async condemn(digest, isBad) {
      using _lock = await locks.acquire(digest)
      if (!(await isBad())) return false
      const forgotten = await holdings.forget(digest)
      await news.isHeard(digest)
      await files.remove(digest)
      return forgotten !== undefined
    },
  }
}
