/** The LMDB environment of the tier: what waits to be uploaded, and what is believed to be there. One writer. */
import { mkdirSync } from 'node:fs'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { Digest } from '../../../core/digest.ts'
import { toHearthError } from '../../../core/errors.ts'
import { refuseNewer } from '../../../core/format-version.ts'
import { setAsideDamage, toWriteError } from '../../../core/lmdb-failure.ts'
import type { Logger } from '../../../core/log.ts'
import type { ScopeId } from '../../../core/scope.ts'
import type { FragmentKind } from './index.ts'

/** Raised by a change that an older Hearth would misread. */
const tablesVersion = 1

export interface QueueRow {
  readonly scope: ScopeId
  readonly digest: Digest
  /** Absent: a record's. */
  readonly kind?: FragmentKind
  readonly blobs: readonly (readonly [digest: Digest, size: number])[]
}

export interface FragmentRow {
  readonly etag: string
  /** By the server's clock. Who keeps a fragment again touches it, and then its blobs were looked at too. */
  readonly modifiedMs: number
  /** Of the object's bytes. */
  readonly content: Digest
  /** It was written by a newer Hearth, or by nobody who knows how: what it names is unknown, and `blobs` is empty. */
  readonly problem?: 'newer' | 'damaged'
  /** This node saw it there with all its blobs. While the very same object is there, so are they. */
  readonly isWhole?: boolean
  /** 32 bytes each. */
  readonly blobs: Buffer
}

export interface Tables extends AsyncDisposable {
  readonly queue: Database<QueueRow, number>
  /** Objects as they will be written, by the keys of `queue`. */
  readonly objects: Database<Buffer, number>
  /** By the keys of the objects. */
  readonly fragments: Database<FragmentRow, string>
  /** Digest and hash of a fragment's key, for each blob that a fragment names. */
  readonly names: Database<Buffer, Buffer>
  /** Blobs that were uploaded or seen here, which no fragment may name yet. */
  readonly uploads: Database<Buffer, Buffer>
  /** Blobs that should be there and are not, or not with their bytes: one byte says which. */
  readonly doubts: Database<Buffer, Buffer>
  /**
   * In one transaction, on disk when it resolves.
   * @throws HearthError `exhausted` when the disk is full
   */
  write<T>(change: () => T): Promise<T>
}

/** @throws HearthError `version` when a newer Hearth wrote it, `environment` when the folder cannot be used. */
export async function openTables(folder: string, log: Logger): Promise<Tables> {
  await setAsideDamage(folder, log)
  const { root, meta, ...tables } = openAll(folder)
  try {
    refuseNewer(`the queue of the object store ${folder}`, meta.get('version') ?? 1, tablesVersion)
    await meta.put('version', tablesVersion)
  } catch (error) {
    await root.close()
    throw error
  }
  return {
    ...tables,
    async write(change) {
      try {
        return await root.transaction(change)
      } catch (error) {
        throw await toWriteError(error, folder)
      }
    },
    [Symbol.asyncDispose]: () => root.close(),
  }
}

function openAll(folder: string) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    // The cache index says why both are off: a resolved write is then a durable one.
    const root: RootDatabase = open(folder, {
      maxDbs: 12,
      overlappingSync: false,
      eventTurnBatching: false,
    })
    const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
    const meta: Database<number, string> = root.openDB('meta', { encoding: 'msgpack' })
    const queue: Database<QueueRow, number> = root.openDB('queue', { encoding: 'msgpack' })
    const objects: Database<Buffer, number> = root.openDB('objects', { encoding: 'binary' })
    const fragments: Database<FragmentRow, string> = root.openDB('fragments', {
      encoding: 'msgpack',
    })
    const names: Database<Buffer, Buffer> = root.openDB('names', binary)
    const uploads: Database<Buffer, Buffer> = root.openDB('uploads', binary)
    const doubts: Database<Buffer, Buffer> = root.openDB('doubts', binary)
    return { root, meta, queue, objects, fragments, names, uploads, doubts }
  } catch (error) {
    throw toHearthError(error, `open the queue of the object store in ${folder}`)
  }
}
