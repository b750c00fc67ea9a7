/**
 * Removes what nobody needs any more: fragments that nobody has kept again for a long time, then blobs that no
 * fragment names and that are not young. Ages are the object store's own. Any number of nodes may sweep and keep
 * at the same time (announcements.ts).
 */
import PQueue from 'p-queue'
import { HearthError } from '../../../core/errors.ts'
import { type AnnouncementDeps, announce, removeStaleAnnouncements } from './announcements.ts'
import type { Bucket, ListedObject } from './bucket.ts'
import { type ListedFragment, type ListingDeps, learnAll, listFragments } from './listing.ts'
import { blobsFolder, digestOfBlobKey, fragmentsFolder } from './location.ts'

export interface SweepDeps extends ListingDeps, AnnouncementDeps {
  bucket: Bucket
}

export interface SweepOptions {
  untouchedMs: number
  graceMs: number
  signal: AbortSignal
}

export interface Swept {
  readonly objects: number
  readonly bytesFreed: number
}

/** An announcement is read by whoever keeps something meanwhile, and a batch must be over within minutes. */
const batchMax = 1000
const removalsMax = 8

/** @throws HearthError `environment` when the object store does not tell the time */
export async function sweepBucket(deps: SweepDeps, options: SweepOptions): Promise<Swept> {
  const { signal, untouchedMs, graceMs } = options
  await removeStaleAnnouncements(deps, { signal })
  const fragments: Swept[] = []
  const seen = await learnFragments(deps, { signal })
  const expired = seen.listed.filter(({ modifiedMs }) => ageMs(deps, modifiedMs) > untouchedMs)
  for (const batch of batches(expired)) {
    fragments.push(await removeFragments(deps, batch, { untouchedMs, signal }))
  }
  const blobs: Swept[] = []
  let pending: ListedObject[] = []
  for await (const page of deps.bucket.list(blobsFolder, { signal })) {
    pending.push(...page.filter((blob) => mayGo(deps, blob, graceMs)))
    if (pending.length < batchMax) continue
    blobs.push(await removeBlobs(deps, pending, { signal }))
    pending = []
  }
  for (const batch of batches(pending)) blobs.push(await removeBlobs(deps, batch, { signal }))
  await abandonUploads(deps, options)
  const swept = add([...fragments, ...blobs])
  deps.log.info({ ...swept, fragments: add(fragments).objects }, 'swept the object store')
  return swept
}

/**
 * All fragments of all scopes, as they are now; what they name is known afterwards.
 * @returns `unknown`: one of which it is not, if there is one.
 */
async function learnFragments(
  deps: SweepDeps,
  { signal }: { signal: AbortSignal },
): Promise<{ listed: ListedFragment[]; unknown: ListedFragment | undefined }> {
  const listed: ListedFragment[] = []
  for await (const page of listFragments(deps, fragmentsFolder, { signal })) {
    await learnAll(deps, page, { signal })
    listed.push(...page)
  }
  const unknown = listed.find(({ key }) => deps.presence.fragment(key)?.problem !== undefined)
  return { listed, unknown }
}

async function removeFragments(
  deps: SweepDeps,
  batch: readonly ListedFragment[],
  { untouchedMs, signal }: { untouchedMs: number; signal: AbortSignal },
): Promise<Swept> {
  const { bucket, presence } = deps
  await using announcement = await announce(
    deps,
    batch.map(({ key }) => key),
    { signal },
  )
  return await removeEach(batch, async ({ key }) => {
    const facts = await bucket.head(key, { signal })
    // Kept again since it was listed.
    if (facts === undefined || ageMs(deps, facts.modifiedMs) <= untouchedMs) return false
    announcement.requireFresh()
    await bucket.remove(key, { signal })
    await presence.forgetFragments([key])
    return true
  })
}

async function removeBlobs(
  deps: SweepDeps,
  batch: readonly ListedObject[],
  { signal }: { signal: AbortSignal },
): Promise<Swept> {
  const { bucket, presence } = deps
  await using announcement = await announce(
    deps,
    batch.map(({ key }) => key),
    { signal },
  )
  // After the announcement: what was kept before it is in this listing.
  const { unknown } = await learnFragments(deps, { signal })
  if (unknown !== undefined) {
    const hint = 'let a node of the newest version sweep; if it is damaged, remove it'
    const { key } = unknown
    deps.log.warn({ object: key, hint }, 'no blobs are swept: it is unknown what a fragment names')
    return nothing
  }
  return await removeEach(batch, async ({ key }) => {
    const digest = digestOfBlobKey(key)
    if (digest === undefined || presence.isNamed(digest)) return false
    announcement.requireFresh()
    await bucket.remove(key, { signal })
    await presence.removed(digest)
    return true
  })
}

/** Parts of uploads that a killed node has begun cost as much as whole blobs, and are in no listing. */
async function abandonUploads(deps: SweepDeps, { graceMs, signal }: SweepOptions): Promise<void> {
  for await (const page of deps.bucket.unfinished(blobsFolder, { signal })) {
    for (const upload of page) {
      if (ageMs(deps, upload.startedMs) > graceMs) await deps.bucket.abandon(upload, { signal })
    }
  }
}

function mayGo(deps: SweepDeps, { key, modifiedMs }: ListedObject, graceMs: number): boolean {
  const digest = digestOfBlobKey(key)
  if (digest === undefined || deps.presence.isNamed(digest)) return false
  return ageMs(deps, modifiedMs) > graceMs
}

function ageMs({ clock }: AnnouncementDeps, modifiedMs: number): number {
  const nowMs = clock.nowMs()
  if (nowMs !== undefined) return nowMs - modifiedMs
  throw new HearthError('environment', 'the object store does not tell the time', {
    hint: 'nothing is swept; let a lifecycle rule of the bucket remove old objects',
  })
}

async function removeEach<T extends ListedObject>(
  batch: readonly T[],
  remove: (object: T) => Promise<boolean>,
): Promise<Swept> {
  const turns = new PQueue({ concurrency: removalsMax })
  const removed = await turns.addAll(
    batch.map((object) => async () => ((await remove(object)) ? object.size : undefined)),
  )
  const sizes = removed.filter((size) => size !== undefined)
  return { objects: sizes.length, bytesFreed: sizes.reduce((sum, size) => sum + size, 0) }
}

const nothing: Swept = { objects: 0, bytesFreed: 0 }

function add(list: readonly Swept[]): Swept {
  return list.reduce(
    (sum, { objects, bytesFreed }) => ({
      objects: sum.objects + objects,
      bytesFreed: sum.bytesFreed + bytesFreed,
    }),
    nothing,
  )
}

function batches<T>(list: readonly T[]): T[][] {
  const count = Math.ceil(list.length / batchMax)
  return Array.from({ length: count }, (_, i) => list.slice(i * batchMax, (i + 1) * batchMax))
}
