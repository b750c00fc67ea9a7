/** Measures what the caches take, walking only what has changed since it was walked last. */
import { type Scope, type ScopeId, scopeId } from '../../core/scope.ts'
import type { DaemonPool, StateUsage } from '../buildkit-runner/daemon/index.ts'
import type { CacheStore, OutsideFile } from '../cache-store/index.ts'
import type { ScopeUse } from './index.ts'

export interface Measurements {
  /** @param options.fresh walks it in any case. */
  scope(scope: Scope, options: { fresh?: boolean; signal: AbortSignal }): Promise<MeasuredScope>
  /** Its state was changed by something else than a build. */
  changed(scope: Scope): void
}

export interface MeasuredScope extends ScopeUse {
  /** Of `bytes`, what goes when BuildKit's state goes: the rest lives on in the cache store. */
  readonly netBytes: number
  /** Blobs that BuildKit and the cache store have as files of their own. */
  readonly copies: readonly OutsideFile[]
}

export function createMeasurements(deps: { daemons: DaemonPool; store: CacheStore }): Measurements {
  const { daemons, store } = deps
  const known = new Map<ScopeId, { state: StateUsage; lastUsedAtMs: number }>()

  return {
    changed: (scope) => void known.delete(scopeId(scope)),

    async scope(scope, { fresh = false, signal }) {
      const id = scopeId(scope)
      const lastUsedAtMs = daemons.isInUse(scope) ? Date.now() : await daemons.lastUsedAtMs(scope)
      const before = known.get(id)
      const isKnown = before?.lastUsedAtMs === lastUsedAtMs && !fresh
      const state = isKnown ? before.state : await daemons.measure(scope, { signal })
      known.set(id, { state, lastUsedAtMs })
      // The cache store changes by itself: what it shares is looked at each time, and is a few files.
      const shared = await compareContent(store, scope, state)
      const { bytes, bytesSetAside: setAsideBytes } = state
      const netBytes = bytes - shared.ownSharedBytes
      return { scope, bytes, setAsideBytes, lastUsedAtMs, netBytes, ...shared }
    },
  }
}

async function compareContent(store: CacheStore, scope: Scope, { content }: StateUsage) {
  const blobs = await store.compare(content)
  const copies: OutsideFile[] = []
  let contentBytes = 0
  let sharedBytes = 0
  let ownSharedBytes = 0
  for (const file of content) {
    contentBytes += file.bytes
    const blob = blobs.get(file.digest)
    if (blob === undefined) continue
    if (!blob.isSameFile) {
      copies.push(file)
      continue
    }
    sharedBytes += file.bytes
    if (blob.projects.has(scope.project)) ownSharedBytes += file.bytes
  }
  return { contentBytes, sharedBytes, ownSharedBytes, copies }
}
