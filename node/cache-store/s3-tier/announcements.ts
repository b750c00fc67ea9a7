/**
 * What sweeps are about to remove, said in the object store itself before it happens:
 *
 *   sweep   announce the batch -> list the fragments afresh -> remove what none names -> withdraw
 *   keep    write the fragment -> wait until no announcement names a part of it -> look whether all is there
 *
 * Whichever comes first, no fragment loses a blob: a sweep that did not see the fragment had announced before the
 * fragment was written, so its announcement is seen, or it is over and what it took is seen to be missing
 * (docs/decisions/s3-tier.md has the argument).
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import type { Bucket, ListedObject } from './bucket.ts'
import { sweepsFolder } from './location.ts'
import type { ServerClock } from './server-clock.ts'

/** A sweep that has not removed what it announced by then announces it again. */
const removeWithinMs = 10 * 60_000
/** An announcement of this age is what a killed sweep left: longer than the limit above and a slow request. */
const liveMs = 15 * 60_000
const defaultPollMs = 500
const announcementBytesMax = 4 * mib
const shape = z.looseObject({ keys: z.array(z.string()) })

export interface Announcement extends AsyncDisposable {
  /** @throws HearthError `deadline` when it was announced too long ago to remove anything now. */
  requireFresh(): void
}

export interface AnnouncementDeps {
  bucket: Pick<Bucket, 'list' | 'get' | 'put' | 'remove'>
  clock: ServerClock
  /** How often to look whether a sweep is over. Default 500. */
  pollMs?: number
}

/** Withdrawn by disposal; then everything that was announced is either removed or will not be. */
export async function announce(
  { bucket }: AnnouncementDeps,
  keys: readonly string[],
  { signal }: { signal: AbortSignal },
): Promise<Announcement> {
  const key = `${sweepsFolder}${randomUUID()}`
  const startedMs = performance.now()
  await bucket.put(key, Buffer.from(JSON.stringify({ version: 1, keys })), { signal })
  return {
    requireFresh() {
      if (performance.now() - startedMs < removeWithinMs) return
      throw new HearthError('deadline', 'the sweep of the object store takes too long')
    },
    // Also when the sweep is cancelled, so that nobody waits for it.
    [Symbol.asyncDispose]: () => bucket.remove(key, { signal: AbortSignal.timeout(withdrawMs) }),
  }
}

const withdrawMs = 10_000

/** Resolves when no sweep that is under way means any of these keys. */
export async function untilNoneIsAnnounced(
  deps: AnnouncementDeps,
  keys: ReadonlySet<string>,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  while (await isAnnounced(deps, keys, signal)) {
    await delay(deps.pollMs ?? defaultPollMs, undefined, { signal }).catch(() => {
      throw new HearthError('cancelled', 'the wait for a sweep was cancelled')
    })
  }
}

async function isAnnounced(
  deps: AnnouncementDeps,
  keys: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<boolean> {
  for await (const page of deps.bucket.list(sweepsFolder, { signal })) {
    for (const object of page) {
      if (!isLive(deps.clock, object)) continue
      const announced = await read(deps, object, signal)
      if (announced.some((key) => keys.has(key))) return true
    }
  }
  return false
}

/** What a killed sweep has left behind. */
export async function removeStaleAnnouncements(
  { bucket, clock }: AnnouncementDeps,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  for await (const page of bucket.list(sweepsFolder, { signal })) {
    for (const object of page)
      if (!isLive(clock, object)) await bucket.remove(object.key, { signal })
  }
}

function isLive(clock: ServerClock, { modifiedMs }: ListedObject): boolean {
  const nowMs = clock.nowMs()
  return nowMs === undefined || nowMs - modifiedMs < liveMs
}

async function read(
  { bucket }: AnnouncementDeps,
  { key }: ListedObject,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const object = await bucket.get(key, { bytesMax: announcementBytesMax, signal })
  if (object === undefined) return []
  try {
    return shape.parse(JSON.parse(object.bytes.toString())).keys
  } catch {
    // Nobody of ours wrote it.
    return []
  }
}
