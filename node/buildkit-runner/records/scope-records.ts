/**
 * The records of all scopes in memory: read from their rows when somebody asks, made anew when something has
 * changed, one change after the other. Whoever can wait lets the event loop have its turns meanwhile.
 */
import type { Digest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import { formatVersions } from '../../../core/format-version.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { Whereabouts } from '../../cache-store/sources/index.ts'
import { readFragment } from './fragment.ts'
import type { FragmentRows } from './fragment-rows.ts'
import { createScopeRecord, type ScopeRecord } from './scope-record.ts'
import type { ServedRecord } from './serve-record.ts'
import { finish, inSlices, type Steps } from './steps.ts'

export interface ScopeRecords {
  /** What changes a scope's record comes one after the other. */
  inTurn<T>(scope: Scope, work: () => Promise<T>): Promise<T>
  /** Undefined when it is not in memory. */
  known(scope: Scope): ScopeRecord | undefined
  /** For who cannot wait. */
  now(scope: Scope): ScopeRecord
  load(scope: Scope): Promise<ScopeRecord>
  refresh(scope: Scope, record: ScopeRecord): Promise<ServedRecord>
  /** Makes what is served to a build of these steps, where that differs. */
  narrow(record: ScopeRecord, steps: ReadonlySet<Digest>): Promise<void>
  refreshNow(scope: Scope, record: ScopeRecord): ServedRecord
  /** Nobody waits for it: what comes at once becomes one. */
  refreshSoon(scope: Scope, record: ScopeRecord): void
  /** Whether what is served of it says all that there is, and can be delivered. */
  isCurrent(scope: Scope, record: ScopeRecord): Promise<boolean>
  /** Until somebody asks again, when its rows are read again. */
  drop(scope: Scope): void
  /** Resolves when nothing is going on any more. */
  idle(): Promise<void>
}

/** Scopes whose union stays in memory; the others are read again, in a few milliseconds, when asked for. */
const scopesInMemoryMax = 64

const blobsPerStep = 100

/** @param deps.isElsewherePossible false: what is here is pinned when it is served, and nothing else is looked at. */
export function createScopeRecords(deps: {
  rows: FragmentRows
  whereabouts: (scope: Scope, blob: BlobInfo) => Whereabouts | undefined
  isElsewherePossible: boolean
  log: Logger
}): ScopeRecords {
  const { rows, whereabouts, log } = deps
  const scopes = new Map<ScopeId, ScopeRecord>()
  const turns = new Map<ScopeId, Promise<unknown>>()
  /** Whose served record is older than their union. */
  const stale = new WeakSet<ScopeRecord>()

  function inTurn<T>(scope: Scope, work: () => Promise<T>): Promise<T> {
    const id = scopeId(scope)
    const done = (turns.get(id) ?? Promise.resolve()).then(work)
    const quiet = done
      .catch(() => {})
      .finally(() => {
        if (turns.get(id) === quiet) turns.delete(id)
      })
    turns.set(id, quiet)
    return done
  }

  /** The scope used longest ago makes room. */
  function remember(id: ScopeId, record: ScopeRecord): ScopeRecord {
    scopes.delete(id)
    scopes.set(id, record)
    for (const oldest of scopes.keys()) {
      if (scopes.size <= scopesInMemoryMax) break
      scopes.delete(oldest)
    }
    return record
  }

  /** Looks at the blobs without pinning them: a pin counts as a use, and most may not be served at all. */
  function refreshing(scope: Scope, record: ScopeRecord): Steps<ServedRecord> {
    stale.delete(record)
    return record.refresh((blob) => whereabouts(scope, blob))
  }

  async function load(scope: Scope): Promise<ScopeRecord> {
    const id = scopeId(scope)
    const loaded = scopes.get(id) ?? (await inSlices(read(scope, rows, log)))
    // Somebody who could not wait may have loaded it meanwhile.
    return remember(id, scopes.get(id) ?? loaded)
  }

  async function isCurrent(scope: Scope, record: ScopeRecord): Promise<boolean> {
    const { served } = record
    if (served === undefined || stale.has(record) || served.lacking.length > 0) return false
    if (!deps.isElsewherePossible) return true
    const { descriptors } = record.union
    return await inSlices(areDeliverable())

    function* areDeliverable(): Steps<boolean> {
      for (const [position, digest] of (served?.blobs ?? []).entries()) {
        const size = descriptors.get(digest)?.descriptor.size
        if (size === undefined) return false
        if (whereabouts(scope, { digest, size }) === undefined) return false
        if (position % blobsPerStep === 0) yield
      }
      return true
    }
  }

  return {
    inTurn,
    load,
    isCurrent,
    known: (scope) => scopes.get(scopeId(scope)),
    now(scope) {
      const id = scopeId(scope)
      return remember(id, scopes.get(id) ?? finish(read(scope, rows, log)))
    },
    refresh: (scope, record) => inSlices(refreshing(scope, record)),
    async narrow(record, steps) {
      if (steps.size === 0 || record.served?.isWhole !== false) return
      if (record.narrowed(steps) === undefined) await inSlices(record.narrow(steps))
    },
    refreshNow: (scope, record) => finish(refreshing(scope, record)),
    refreshSoon(scope, record) {
      if (stale.has(record)) return
      stale.add(record)
      void inTurn(scope, async () => {
        if (stale.has(record)) await inSlices(refreshing(scope, record))
      })
    },
    drop: (scope) => void scopes.delete(scopeId(scope)),
    async idle() {
      await Promise.all(turns.values())
    },
  }
}

/** Reads the scope's fragments from their rows. What cannot be read is a lost hit and a log line. */
function* read(scope: Scope, rows: FragmentRows, log: Logger): Steps<ScopeRecord> {
  const record = createScopeRecord()
  const inOrder = rows.ofScope(scope).sort((a, b) => a.row.sequence - b.row.sequence)
  for (const { digest, row } of inOrder) {
    yield
    const { sequence, version, bytes, isKept = true } = row
    const fields = { scope: scopeId(scope), fragment: digest }
    if (version > formatVersions.fragment) {
      log.warn({ ...fields, version }, 'a cache fragment of a newer Hearth is ignored')
      continue
    }
    try {
      const graph = readFragment(bytes, sequence)
      yield* record.add({ digest, sequence, isKept, graph })
    } catch (error) {
      log.warn({ ...fields, error: describeError(error) }, 'a cache fragment cannot be read')
    }
  }
  return record
}
