/** Fragments and records as blobs of the store: small enough to be held in memory whole. */
import type { Digest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'

/** BuildKit exports records of any size and imports none above 1 MiB; what we merge may be cut to that. */
export const documentBytesMax = 8 * mib

/** A few megabytes from the own disk. */
const readTimeoutMs = 60_000

/** @throws HearthError `not-found`, `invalid-input` when it is too large. */
export async function readDocument(
  store: CacheStore,
  scope: Scope,
  digest: Digest,
): Promise<Buffer> {
  const size = store.stat(scope, digest)?.size ?? 0
  if (size > documentBytesMax) {
    throw new HearthError('invalid-input', `a cache record of ${size} bytes is too large`)
  }
  const source = await store.open(scope, digest, { signal: AbortSignal.timeout(readTimeoutMs) })
  if (source === undefined) {
    throw new HearthError('not-found', `the blob ${digest} of a cache record is not here`)
  }
  return Buffer.concat(await source.toArray())
}

/** @throws HearthError `exhausted` when the disk is full. */
export async function writeDocument(
  store: CacheStore,
  scope: Scope,
  { digest, bytes }: { digest: Digest; bytes: Uint8Array },
): Promise<void> {
  await using writer = await store.createWriter(scope)
  await writer.write(bytes)
  await writer.commit(digest)
}
