/** What this node's caches hold, whether they are sound, and how a project is forgotten. */
import { statfs } from 'node:fs/promises'
import { parseScopeId, type Scope, type ScopeId, scopeId } from '../core/scope.ts'
import type { NodeCacheUsage, ScopeUsage, VerifyEvent } from '../proto/generated/hearth/v1/node.ts'
import type { DaemonPool } from './buildkit-runner/daemon/index.ts'
import type { Records } from './buildkit-runner/records/index.ts'
import type { CacheStore } from './cache-store/index.ts'

export interface CachesDeps {
  store: CacheStore
  records: Records
  daemons: DaemonPool
}

/** @param options.project empty for all. */
export async function measureUsage(
  deps: CachesDeps,
  options: { nodeId: string; project: string; dataFolder: string },
): Promise<NodeCacheUsage> {
  const usage = deps.store.usage()
  const scopes = scopesOf(deps).filter(
    ({ project }) => options.project === '' || project === options.project,
  )
  return {
    nodeId: options.nodeId,
    scopes: await Promise.all(scopes.map((scope) => measureScope(deps, usage, scope))),
    storeBytes: usage.bytes,
    diskFreeBytes: await freeBytes(options.dataFolder),
    disk: undefined,
    projects: [],
  }
}

/** Bytes that this process could still write to the file system of a folder. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

const walkMs = 5 * 60_000

async function measureScope(
  deps: CachesDeps,
  usage: ReturnType<CacheStore['usage']>,
  scope: Scope,
): Promise<ScopeUsage> {
  const held = usage.scopes.get(scopeId(scope))
  return {
    scope,
    blobs: held?.blobs ?? 0,
    bytes: held?.bytes ?? 0,
    fragments: deps.records.count(scope),
    buildkitBytes: (await deps.daemons.measure(scope, { signal: AbortSignal.timeout(walkMs) }))
      .bytes,
    lastUsedAt: held === undefined ? undefined : new Date(held.lastUsedAtMs),
    sharedBytes: 0,
  }
}

/** Scopes with blobs, with BuildKit state, or both. */
function scopesOf(deps: CachesDeps): Scope[] {
  const ids = new Set<ScopeId>(deps.store.usage().scopes.keys())
  for (const scope of deps.daemons.scopes()) ids.add(scopeId(scope))
  return [...ids].sort().map(parseScopeId)
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

/**
 * Forgets everything of a project, in all its trust lines.
 * @returns bytes freed on disk.
 * @throws HearthError `unavailable` while one of its builds runs; what was forgotten by then stays so.
 */
export async function resetProject(deps: CachesDeps, project: string): Promise<number> {
  let bytesFreed = 0
  for (const scope of scopesOf(deps).filter((candidate) => candidate.project === project)) {
    // The one that can refuse goes first: a scope is forgotten whole or not at all.
    bytesFreed += (await deps.daemons.reset(scope)).bytesFreed
    await deps.records.reset(scope)
    bytesFreed += (await deps.store.reset(scope)).bytesFreed
  }
  return bytesFreed
}
