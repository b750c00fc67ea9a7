/** One fragment's way into the object store: its blobs, then itself, then a look whether all of it stayed. */
import PQueue from 'p-queue'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { type ErrorCode, HearthError } from '../../../core/errors.ts'
import { type AnnouncementDeps, untilNoneIsAnnounced } from './announcements.ts'
import type { Bucket, ObjectFacts } from './bucket.ts'
import type { S3TierDeps } from './index.ts'
import { blobKey, scopeFolder } from './location.ts'
import type { Presence } from './presence.ts'
import type { Queued } from './queue.ts'
import type { Uploads } from './uploads.ts'

export type KeepOutcome =
  | { readonly type: 'kept' }
  | { readonly type: 'given up'; readonly code: ErrorCode; readonly reason: string }

export interface KeepDeps extends AnnouncementDeps {
  store: S3TierDeps['store']
  bucket: Bucket
  presence: Presence
  uploads: Uploads
}

export interface KeepOptions {
  /** A fragment that is there and was touched less long ago than this is left as it is. */
  touchAfterMs: number
  signal: AbortSignal
}

/** A sweep may take away once what it had announced before; more than that is somebody else's doing. */
const roundsMax = 3
const looksMax = 8
/** A page of a listing costs as much as some looks. */
const worthListing = 4

/** @throws HearthError when the object store is in trouble, so that it is worth another try later. */
export async function keepFragment(
  deps: KeepDeps,
  queued: Queued,
  object: Buffer,
  options: KeepOptions,
): Promise<KeepOutcome> {
  const { bucket, presence } = deps
  const { key, scope, blobs } = queued
  const { signal } = options
  if (await isFresh(deps, queued, object, options)) return { type: 'kept' }
  // Not before: what only waits may be evicted, or a store that cannot be reached would fill the disk.
  using _pin = deps.store.pin(
    scope,
    blobs.map(({ digest }) => digest),
    { isUse: false },
  )
  const keys = new Set([key, ...blobs.map(({ digest }) => blobKey(digest))])
  for (let round = 1; round <= roundsMax; round += 1) {
    const evicted = await bringAll(deps, queued, signal)
    if (evicted !== undefined) {
      return {
        type: 'given up',
        code: 'not-found',
        reason: `${evicted} was evicted before it was uploaded`,
      }
    }
    const { etag } = await bucket.put(key, object, { signal })
    await untilNoneIsAnnounced(deps, keys, { signal })
    const facts = await bucket.head(key, { signal })
    const isWhole = await areThere(deps, queued, signal)
    if (facts === undefined || !isWhole) continue
    if (facts.etag === etag) await presence.learnWhole(queued, { ...facts, bytes: object })
    return { type: 'kept' }
  }
  throw new HearthError('unavailable', 'what is written to the object store does not stay there', {
    hint: 'look for a lifecycle rule of the bucket, or for somebody who removes objects',
  })
}

/** Whether exactly this object is there, and no sweep of the next days can mean it. */
async function isFresh(
  { bucket, presence, clock }: KeepDeps,
  { key, blobs }: Queued,
  object: Buffer,
  { touchAfterMs, signal }: KeepOptions,
): Promise<boolean> {
  const row = presence.fragment(key)
  if (row?.content !== digestOf(object)) return false
  if (blobs.some(({ digest }) => presence.doubtOf(digest) !== undefined)) return false
  const facts: ObjectFacts | undefined = await bucket.head(key, { signal })
  const nowMs = clock.nowMs()
  if (facts?.etag !== row.etag || nowMs === undefined) return false
  return nowMs - facts.modifiedMs < touchAfterMs
}

/** @returns a blob that is neither there nor in the store, if there is one. */
async function bringAll(
  { uploads }: KeepDeps,
  { scope, blobs }: Queued,
  signal: AbortSignal,
): Promise<Digest | undefined> {
  // When one has failed, the others need not go on.
  const failed = new AbortController()
  const any = AbortSignal.any([signal, failed.signal])
  let evicted: Digest | undefined
  let failure: unknown
  await Promise.all(
    blobs.map(async (blob) => {
      try {
        if (await uploads.bring(scope, blob, { signal: any })) return
        evicted ??= blob.digest
      } catch (error) {
        failure ??= error
      }
      failed.abort()
    }),
  )
  if (evicted !== undefined) return evicted
  if (failure !== undefined) throw failure
  return undefined
}

/** Asks for each, whatever is believed, unless a fragment vouches for it; corrects the belief. */
async function areThere(deps: KeepDeps, queued: Queued, signal: AbortSignal): Promise<boolean> {
  const { bucket, presence } = deps
  const vouched = await vouchedFor(deps, queued, signal)
  const turns = new PQueue({ concurrency: looksMax })
  const asked = queued.blobs.filter(({ digest }) => !vouched.has(digest))
  const looks = await turns.addAll(
    asked.map(({ digest, size }) => async () => {
      const isThere = (await bucket.head(blobKey(digest), { signal }))?.size === size
      if (!isThere) await presence.doubt(digest, 'absent')
      return isThere
    }),
  )
  return looks.every(Boolean)
}

/**
 * Blobs of the scope's other fragments that this node has seen there whole, and that are there still: no sweep has
 * touched those. Most of what a build made was there after the one before.
 */
async function vouchedFor(
  { bucket, presence }: KeepDeps,
  { key, scope, blobs }: Queued,
  signal: AbortSignal,
): Promise<ReadonlySet<Digest>> {
  if (blobs.length < worthListing) return new Set()
  const vouched = new Set<Digest>()
  for await (const page of bucket.list(scopeFolder(scope), { signal })) {
    const whole = page.filter((object) => object.key !== key && presence.isWhole(object))
    for (const object of whole) for (const blob of presence.blobsOf(object.key)) vouched.add(blob)
  }
  return new Set([...vouched].filter((digest) => presence.doubtOf(digest) === undefined))
}
