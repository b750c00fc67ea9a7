/**
 * Frees disk space, what costs least to get again first (docs/decisions/disk.md):
 *
 * 1. what nobody reads: states and indexes that were set aside
 * 2. second copies of blobs that BuildKit and the cache store both have
 * 3. whole BuildKit states that were not used for an hour, the one idle longest first
 * 4. the least recently used part of the others
 * 5. blobs of the cache store, the one used longest ago first
 *
 * What a build uses is not touched. Each step ends as soon as there is enough.
 */
import { readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import type { DaemonPool } from '../buildkit-runner/daemon/index.ts'
import type { CacheStore } from '../cache-store/index.ts'
import type { MeasuredScope, Measurements } from './measure.ts'

export interface MakeRoomDeps {
  daemons: DaemonPool
  store: CacheStore
  measurements: Measurements
  log: Logger
}

const idleMs = 60 * 60_000
/** A state that must lose more than this share goes whole: that needs no daemon and no space. */
const wholeShare = 0.7

/**
 * @param options.missing bytes that are still to be freed, asked before each step; 0 or less: enough.
 * @param options.folder the node's data folder.
 */
export async function makeRoom(
  deps: MakeRoomDeps,
  options: { missing: () => Promise<number>; folder: string; signal: AbortSignal },
): Promise<void> {
  const { daemons, store, log } = deps
  const { missing, signal } = options
  const isEnough = async (): Promise<boolean> => signal.aborted || (await missing()) <= 0
  if (await isEnough()) return
  await removeDamaged(options.folder)
  for (const scope of daemons.scopes()) {
    await daemons.removeSetAside(scope, Date.now())
    deps.measurements.changed(scope)
  }
  if (await isEnough()) return

  for (const { scope, copies } of await restingScopes(deps, signal)) {
    for (const copy of copies) if (!daemons.isInUse(scope)) await store.merge(copy, { signal })
  }
  for (const state of await restingScopes(deps, signal)) {
    if (await isEnough()) return
    await shrinkState(deps, state, await missing(), signal)
  }
  for (;;) {
    const bytes = await missing()
    if (bytes <= 0 || signal.aborted) return
    const { blobs, bytesFreed } = await store.evictOldest(bytes)
    if (blobs === 0) break
    log.warn({ blobs, bytesFreed }, 'blobs went because the disk is nearly full')
  }
}

/** Those that nobody uses, the one idle longest first. */
async function restingScopes(
  { daemons, measurements }: MakeRoomDeps,
  signal: AbortSignal,
): Promise<MeasuredScope[]> {
  const resting: Scope[] = daemons.scopes().filter((scope) => !daemons.isInUse(scope))
  const measured: MeasuredScope[] = []
  for (const scope of resting) measured.push(await measurements.scope(scope, { signal }))
  return measured
    .filter(({ bytes }) => bytes > 0)
    .sort((left, right) => left.lastUsedAtMs - right.lastUsedAtMs)
}

async function shrinkState(
  deps: MakeRoomDeps,
  { scope, netBytes, ownSharedBytes, lastUsedAtMs }: MeasuredScope,
  bytes: number,
  signal: AbortSignal,
): Promise<void> {
  const { daemons, log } = deps
  const isOld = Date.now() - lastUsedAtMs > idleMs
  try {
    if (!isOld && bytes < netBytes * wholeShare) {
      const measure = async (): Promise<number> =>
        (await deps.measurements.scope(scope, { fresh: true, signal })).netBytes
      const bytesMax = netBytes - bytes
      await daemons.prune(scope, { bytesMax, bytesUncounted: ownSharedBytes, measure })
      deps.measurements.changed(scope)
      return
    }
  } catch (error) {
    log.warn(
      { scope: scopeId(scope), reason: describeError(error) },
      'a BuildKit state cannot be pruned and is deleted instead',
    )
  }
  try {
    const { bytesFreed } = await daemons.reset(scope)
    deps.measurements.changed(scope)
    log.warn(
      { scope: scopeId(scope), bytesFreed },
      'a BuildKit state is deleted because the disk is nearly full',
    )
  } catch (error) {
    // A build came in between.
    log.info({ scope: scopeId(scope), reason: describeError(error) }, 'a BuildKit state stays')
  }
}

/** Indexes that could not be opened, see core/lmdb-failure.ts. */
async function removeDamaged(folder: string): Promise<void> {
  for (const parent of [folder, path.join(folder, 'cache-store')]) {
    for (const name of await readdir(parent).catch(() => [])) {
      if (/\.damaged-\d+$/.test(name)) {
        await rm(path.join(parent, name), { recursive: true, force: true })
      }
    }
  }
}
