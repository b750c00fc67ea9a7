/** Brings blobs of the store into the object store: each once at a time, a few at once, no faster than allowed. */
import { Readable } from 'node:stream'
import PQueue from 'p-queue'
import type { Digest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Scope } from '../../../core/scope.ts'
import { createUploadPace } from '../../../mesh/exchange/upload-pace.ts'
import type { BlobInfo } from '../index.ts'
import type { Bucket } from './bucket.ts'
import type { S3TierDeps } from './index.ts'
import { blobKey } from './location.ts'
import type { Presence } from './presence.ts'

export interface Uploads {
  /**
   * Unless it is there already: what nobody remembers is looked for first.
   * @returns false when it is neither there nor in the store.
   */
  bring(scope: Scope, blob: BlobInfo, options: { signal: AbortSignal }): Promise<boolean>
}

export interface UploadOptions {
  uploadsMax: number
  bytesPerS: number | undefined
}

export function createUploads(
  deps: { store: S3TierDeps['store']; bucket: Pick<Bucket, 'head' | 'upload'>; presence: Presence },
  { uploadsMax, bytesPerS }: UploadOptions,
): Uploads {
  const { store, bucket, presence } = deps
  const turns = new PQueue({ concurrency: uploadsMax })
  const pace = createUploadPace(bytesPerS)
  const onTheirWay = new Map<Digest, Promise<boolean>>()

  async function isThere({ digest, size }: BlobInfo, signal: AbortSignal): Promise<boolean> {
    if (presence.doubtOf(digest) === 'wrong bytes') return false
    return (await bucket.head(blobKey(digest), { signal }))?.size === size
  }

  async function bringNow(scope: Scope, blob: BlobInfo, signal: AbortSignal): Promise<boolean> {
    const { digest } = blob
    if (!(await isThere(blob, signal))) {
      const source = await store.open(scope, digest, { signal })
      if (source === undefined) return false
      const paced = Readable.from(pacedBytes(source, blob, pace), { objectMode: false })
      await bucket.upload(blobKey(digest), paced, { signal })
    }
    await presence.seen(digest)
    return true
  }

  return {
    async bring(scope, blob, { signal }) {
      const { digest } = blob
      for (;;) {
        if (presence.has(digest)) return true
        const other = onTheirWay.get(digest)
        if (other === undefined) break
        // It may fail for a reason that is not ours: another scope may have lost the blob.
        await other.catch(() => false)
      }
      const ours = turns.add(() => bringNow(scope, blob, signal), { signal })
      onTheirWay.set(digest, ours)
      try {
        return await ours
      } catch (error) {
        if (!signal.aborted) throw error
        throw new HearthError('cancelled', 'an upload was cancelled', { cause: error })
      } finally {
        onTheirWay.delete(digest)
      }
    },
  }
}

async function* pacedBytes(
  source: AsyncIterable<Buffer>,
  { digest, size }: BlobInfo,
  pace: { wait(bytes: number): Promise<void> },
): AsyncGenerator<Buffer, void, void> {
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    await pace.wait(chunk.length)
    yield chunk
  }
  if (bytes !== size) throw new HearthError('corrupt', `${digest} has ${bytes} bytes, not ${size}`)
}
