/**
 * The index beside the blob files: which blobs there are, who owns them, and when each was last used.
 *
 * Reads are synchronous. Writes are transactions that LMDB batches: a `write` has run whole and is on disk
 * (fdatasync) when it resolves, or has not happened. Transactions run one after the other in the order of
 * their calls, and reads inside one see what it and those before it wrote.
 */
import { mkdirSync } from 'node:fs'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { Digest } from '../../core/digest.ts'
import { toHearthError } from '../../core/errors.ts'
import { formatVersions, refuseNewer } from '../../core/format-version.ts'
import { toWriteError } from '../../core/lmdb-failure.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobInfo, EvictionPolicy } from './index.ts'
import { claimIndex, releaseIndex } from './index-holder.ts'
import type { Holding, Use } from './index-keys.ts'
import * as keys from './index-keys.ts'

export interface BlobIndex extends AsyncDisposable {
  size(digest: Digest): number | undefined
  lastUsedAtMs(holding: Holding): number | undefined
  owners(digest: Digest): ScopeId[]
  /** In digest order, from the one after `after`. */
  blobsAfter(after: Digest | undefined, limit: number): BlobInfo[]
  /** Every blob whose first digest byte is `shard`, with its owners. */
  shard(shard: number): IndexedBlob[]
  /** A project's uses, least recent first, from the one after `after`. */
  usesAfter(project: string, after: Use | undefined, limit: number): Use[]
  /**
   * @param change must not throw after its first row: what it has written by then would stay.
   * @throws HearthError `exhausted` when the disk is full, else `internal`
   */
  write<T>(change: (rows: RowWriter) => T): Promise<T>
  policies(): ReadonlyMap<string, EvictionPolicy>
  savePolicies(policies: ReadonlyMap<string, EvictionPolicy>): Promise<void>
}

export interface IndexedBlob extends BlobInfo {
  readonly owners: readonly { scope: ScopeId; lastUsedAtMs: number }[]
}

/** Changes inside one transaction. */
export interface RowWriter {
  putBlob(blob: BlobInfo): void
  removeBlob(digest: Digest): void
  /** Adds the owner, or moves its last use. */
  putOwner(use: Use): void
  removeOwner(holding: Holding): void
}

interface Tables {
  readonly blobs: Database<Buffer, Buffer>
  readonly owners: Database<Buffer, Buffer>
  readonly uses: Database<Buffer, Buffer>
  readonly meta: Database<unknown, string>
}

// Some byte: LMDB takes none, but there is nothing to gain from relying on it.
const nothing = Buffer.from([0])
const versionKey = 'version'
const policiesKey = 'policies'

/**
 * @param folder holds `data.mdb` and its lock, nothing else.
 * @throws HearthError `version` when a newer Hearth wrote it, `unavailable` when another process holds it.
 */
export function openBlobIndex(folder: string): BlobIndex {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { root, tables } = openTables(folder)
  try {
    // One transaction, so that of two processes that start at once only one gets past it.
    root.transactionSync(() => {
      claimIndex(tables.meta, folder)
      const version = tables.meta.get(versionKey) ?? formatVersions.cacheIndex
      refuseNewer(`the cache index ${folder}`, Number(version), formatVersions.cacheIndex)
      tables.meta.putSync(versionKey, formatVersions.cacheIndex)
    })
  } catch (error) {
    void root.close()
    throw error
  }
  return createBlobIndex(root, tables, folder)
}

function openTables(folder: string): { root: RootDatabase; tables: Tables } {
  try {
    const root = open(folder, {
      maxDbs: 8,
      // A resolved write is then a durable one, and a failed one (disk full) rejects its own promise alone:
      // with either option on, lmdb 3.5.6 also rejects a promise of its own that nobody can catch.
      overlappingSync: false,
      eventTurnBatching: false,
    })
    const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
    const tables: Tables = {
      blobs: root.openDB('blobs', binary),
      owners: root.openDB('owners', binary),
      uses: root.openDB('uses', binary),
      meta: root.openDB('meta', { encoding: 'msgpack' }),
    }
    return { root, tables }
  } catch (error) {
    throw toHearthError(error, `open the cache index in ${folder}`)
  }
}

function createBlobIndex(root: RootDatabase, tables: Tables, folder: string): BlobIndex {
  const { blobs, owners, uses, meta } = tables

  const lastUsedAtMs = (holding: Holding) => {
    const value = owners.get(keys.ownerKey(holding))
    return value === undefined ? undefined : keys.decodeNumber(value)
  }

  const rows: RowWriter = {
    putBlob({ digest, size }) {
      blobs.putSync(keys.digestKey(digest), keys.encodeNumber(size))
    },
    removeBlob(digest) {
      blobs.removeSync(keys.digestKey(digest))
    },
    putOwner(use) {
      const before = lastUsedAtMs(use)
      if (before !== undefined) uses.removeSync(keys.useKey({ ...use, lastUsedAtMs: before }))
      owners.putSync(keys.ownerKey(use), keys.encodeNumber(use.lastUsedAtMs))
      uses.putSync(keys.useKey(use), nothing)
    },
    removeOwner(holding) {
      const before = lastUsedAtMs(holding)
      if (before === undefined) return
      uses.removeSync(keys.useKey({ ...holding, lastUsedAtMs: before }))
      owners.removeSync(keys.ownerKey(holding))
    },
  }

  return {
    lastUsedAtMs,
    size(digest) {
      const value = blobs.get(keys.digestKey(digest))
      return value === undefined ? undefined : keys.decodeNumber(value)
    },
    owners(digest) {
      const start = keys.digestKey(digest)
      const end = Buffer.concat([start, Buffer.from([0xff])])
      return Array.from(owners.getKeys({ start, end }), (key) => keys.decodeOwnerKey(key).scope)
    },
    blobsAfter(after, limit) {
      const start = after === undefined ? Buffer.from([0]) : keys.keyAfter(keys.digestKey(after))
      return Array.from(blobs.getRange({ start, limit }), ({ key, value }) => ({
        digest: keys.decodeDigest(key),
        size: keys.decodeNumber(value),
      }))
    },
    shard(shard) {
      const range = { start: Buffer.from([shard]), end: Buffer.from([shard, ...endOfShard]) }
      const holders = new Map<Digest, { scope: ScopeId; lastUsedAtMs: number }[]>()
      for (const { key, value } of owners.getRange(range)) {
        const { digest, scope } = keys.decodeOwnerKey(key)
        const known = holders.get(digest) ?? []
        known.push({ scope, lastUsedAtMs: keys.decodeNumber(value) })
        holders.set(digest, known)
      }
      return Array.from(blobs.getRange(range), ({ key, value }) => {
        const digest = keys.decodeDigest(key)
        return { digest, size: keys.decodeNumber(value), owners: holders.get(digest) ?? [] }
      })
    },
    usesAfter(project, after, limit) {
      const range = keys.useRange(project)
      const start = after === undefined ? range.start : keys.keyAfter(keys.useKey(after))
      return Array.from(uses.getKeys({ start, end: range.end, limit }), keys.decodeUseKey)
    },
    async write(change) {
      try {
        return await root.transaction(() => change(rows))
      } catch (error) {
        throw await toWriteError(error, folder)
      }
    },
    policies() {
      const saved = (meta.get(policiesKey) ?? []) as [string, EvictionPolicy][]
      return new Map(saved)
    },
    async savePolicies(policies) {
      try {
        await meta.put(policiesKey, [...policies])
      } catch (error) {
        throw await toWriteError(error, folder)
      }
    },
    async [Symbol.asyncDispose]() {
      releaseIndex(root, meta)
      await root.close()
    },
  }
}

/** Above every key that begins with the shard's byte: longer than a digest, all ones. */
const endOfShard = Buffer.alloc(40, 0xff)
