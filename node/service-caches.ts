/** What this node's caches hold, whether they are sound, and how a project is forgotten. */
import { type Scope, type ScopeId, scopeId, splitScopeId } from '../core/scope.ts'
import type {
  MountUsage,
  NodeCacheUsage,
  ObjectStoreState,
  ScopeUsage,
  VerifyEvent,
} from '../proto/generated/hearth/v1/node.ts'
import type { DaemonPool } from './buildkit-runner/daemon/index.ts'
import type { Mounts } from './buildkit-runner/mounts/index.ts'
import type { Records } from './buildkit-runner/records/index.ts'
import type { CacheStore } from './cache-store/index.ts'
import type { S3Tier } from './cache-store/s3-tier/index.ts'
import type { CachesUsage, DiskBudget } from './disk/index.ts'

export interface CachesDeps {
  store: CacheStore
  records: Records
  daemons: DaemonPool
  disk: DiskBudget
  mounts: Pick<Mounts, 'list' | 'reset'>
  /** The object store behind all nodes, where there is one. */
  s3?: Pick<S3Tier, 'state' | 'reset'> | undefined
}

/** @param options.project empty for all. */
export async function measureUsage(
  deps: CachesDeps,
  options: { nodeId: string; project: string; signal: AbortSignal },
): Promise<NodeCacheUsage> {
  const caches = await deps.disk.usage(options)
  const isAsked = (project: string): boolean =>
    options.project === '' || project === options.project
  const { sharedBytes, setAsideBytes, totalBytes, limitBytes, freeBytes, marks } = caches
  return {
    nodeId: options.nodeId,
    scopes: scopesOf(deps)
      .filter(({ project }) => isAsked(project))
      .map((scope) => describeScope(deps, caches, scope)),
    storeBytes: deps.store.usage().bytes,
    diskFreeBytes: freeBytes,
    disk: {
      snapshotBytes: caches.snapshotBytes,
      contentBytes: caches.contentBytes,
      storeBytes: caches.storeBytes,
      sharedBytes,
      setAsideBytes,
      totalBytes,
      limitBytes,
      freeBytes,
      minimumFreeBytes: marks.minimum,
      floorFreeBytes: marks.floor,
    },
    projects: caches.projects.filter(({ project }) => isAsked(project)),
    objectStore: describeObjectStore(deps),
  }
}

/** @param project empty for all. */
export function describeMounts({ list }: Pick<Mounts, 'list'>, project: string): MountUsage[] {
  return list()
    .filter(({ scope }) => project === '' || scope.project === project)
    .map(({ lastUsedAtMs, secondsSaved = 0, ...mount }) => ({
      ...mount,
      secondsSaved,
      lastUsedAt: lastUsedAtMs === undefined ? undefined : new Date(lastUsedAtMs),
    }))
}

function describeObjectStore({ s3 }: CachesDeps): ObjectStoreState | undefined {
  return s3 && { trouble: '', ...s3.state() }
}

function describeScope(deps: CachesDeps, caches: CachesUsage, scope: Scope): ScopeUsage {
  const held = deps.store.usage().scopes.get(scopeId(scope))
  const state = caches.scopes.get(scopeId(scope))
  return {
    scope,
    blobs: held?.blobs ?? 0,
    bytes: held?.bytes ?? 0,
    fragments: deps.records.count(scope),
    buildkitBytes: state === undefined ? 0 : state.bytes + state.setAsideBytes,
    lastUsedAt: held === undefined ? undefined : new Date(held.lastUsedAtMs),
    sharedBytes: state?.sharedBytes ?? 0,
  }
}

/** Scopes with blobs, with BuildKit state, or both. */
function scopesOf(deps: CachesDeps): Scope[] {
  const ids = new Set<ScopeId>(deps.store.usage().scopes.keys())
  for (const scope of deps.daemons.scopes()) ids.add(scopeId(scope))
  return [...ids].sort().map(splitScopeId)
}

export async function* verifyBlobs(
  { store }: Pick<CachesDeps, 'store'>,
  project: string,
  { signal }: { signal: AbortSignal },
): AsyncGenerator<VerifyEvent, void, void> {
  const events = store.verify({ ...(project === '' ? {} : { project }), signal })
  for await (const event of events) {
    const { type, ...value } = event
    yield { event: { $case: type, value } } as VerifyEvent
  }
}

/** Removing some hundred fragments, one by one. */
const objectStoreMs = 5 * 60_000

/**
 * Forgets everything of a project, in all its trust lines.
 * @returns bytes freed on disk.
 * @throws HearthError `unavailable` while one of its builds runs; what was forgotten by then stays so.
 */
export async function resetProject(deps: CachesDeps, project: string): Promise<number> {
  let bytesFreed = 0
  // Also those of which this node knows only what others have told it.
  const all = [...scopesOf(deps), ...deps.records.scopes()].filter(
    (scope) => scope.project === project,
  )
  for (const scope of new Map(all.map((each) => [scopeId(each), each])).values()) {
    // The one that can refuse goes first: a scope is forgotten whole or not at all.
    bytesFreed += (await deps.daemons.reset(scope)).bytesFreed
    await deps.records.reset(scope)
    bytesFreed += (await deps.store.reset(scope)).bytesFreed
  }
  await deps.mounts.reset(project)
  // Every node does so: whichever is the last leaves nothing that an earlier one was still uploading.
  await deps.s3?.reset(project, { signal: AbortSignal.timeout(objectStoreMs) })
  return bytesFreed
}
