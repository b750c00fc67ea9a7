/** Documents and lists as blobs of the store: small enough to be held in memory whole. */
import type { Digest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { Blob } from './index.ts'

export const smallBlobBytesMax = 64 * mib

/** @throws HearthError `exhausted` when the disk is full. */
export async function writeBlob(
  store: CacheStore,
  scope: Scope,
  { digest, bytes }: { digest: Digest; bytes: Uint8Array },
): Promise<Blob> {
  await using writer = await store.createWriter(scope)
  await writer.write(bytes)
  return await writer.commit(digest)
}

/** @throws HearthError `not-found`, `corrupt` when it is too large. */
export async function readBlob(
  store: CacheStore,
  scope: Scope,
  { digest, size }: Blob,
  options: { bytesMax?: number; signal: AbortSignal },
): Promise<Buffer> {
  const { bytesMax = smallBlobBytesMax, signal } = options
  if (size > bytesMax) throw new HearthError('corrupt', `a list of ${size} bytes is too large`)
  const source = await store.open(scope, digest, { signal })
  if (source === undefined) throw new HearthError('not-found', `the blob ${digest} is not here`)
  return Buffer.concat(await source.toArray())
}
