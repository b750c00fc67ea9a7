/** URLs that give a blob to whoever has them, for some minutes: made once, used by all readers of the blob. */
import type { Digest } from '../../../core/digest.ts'
import type { Bucket } from './bucket.ts'
import { blobKey } from './location.ts'

export interface BlobUrls {
  /** Valid for at least some more minutes. @throws HearthError when there are no credentials to sign with. */
  of(digest: Digest): Promise<string>
  forget(digest: Digest): void
}

const validS = 30 * 60
/** Leaves 20 minutes for one blob. */
const reusedMs = 10 * 60_000
const urlsMax = 1000

export function createBlobUrls({ bucket }: { bucket: Pick<Bucket, 'presign'> }): BlobUrls {
  const made = new Map<Digest, { url: string; atMs: number }>()
  return {
    async of(digest) {
      const known = made.get(digest)
      if (known !== undefined && performance.now() - known.atMs < reusedMs) return known.url
      const url = await bucket.presign(blobKey(digest), { expiresS: validS })
      made.delete(digest)
      made.set(digest, { url, atMs: performance.now() })
      const [oldest] = made.keys()
      if (made.size > urlsMax && oldest !== undefined) made.delete(oldest)
      return url
    },
    forget: (digest) => void made.delete(digest),
  }
}
