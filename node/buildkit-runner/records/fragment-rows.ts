/**
 * Where fragments are kept: one row each, in an LMDB environment of their own. A row holds the fragment
 * itself, so that the first build after a restart need not wait for it, and eviction cannot lose it.
 */
import { mkdirSync } from 'node:fs'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { Digest } from '../../../core/digest.ts'
import { toHearthError } from '../../../core/errors.ts'
import { setAsideDamage, toWriteError } from '../../../core/lmdb-failure.ts'
import type { Logger } from '../../../core/log.ts'
import { parseScopeId, type Scope, scopeId } from '../../../core/scope.ts'

export interface FragmentRow {
  readonly version: number
  /** Which of the scope's fragments was said knowing which. */
  readonly sequence: number
  /** Absent: it is. */
  readonly isKept?: boolean
  readonly bytes: Uint8Array
}

export interface FragmentRows extends AsyncDisposable {
  ofScope(scope: Scope): { digest: Digest; row: FragmentRow }[]
  get(scope: Scope, digest: Digest): FragmentRow | undefined
  count(scope: Scope): number
  scopes(): Scope[]
  /**
   * In one transaction, on disk when it resolves.
   * @throws HearthError `exhausted` when the disk is full, else `internal`
   */
  replace(
    scope: Scope,
    change: { put?: { digest: Digest; row: FragmentRow } | undefined; remove: readonly Digest[] },
  ): Promise<void>
  /** Removes all of the scope's rows, those too that are on their way to disk. Throws like `replace`. */
  clear(scope: Scope): Promise<void>
}

type Key = [scope: string, digest: string]

/** Sorts behind every digest. */
const afterDigests = '~'

/** @throws HearthError `environment` when the folder cannot be used. */
export async function openFragmentRows(folder: string, log: Logger): Promise<FragmentRows> {
  await setAsideDamage(folder, log)
  const { root, rows } = openTables(folder)
  const rangeOf = (scope: Scope): { start: Key; end: Key } => ({
    start: [scopeId(scope), ''],
    end: [scopeId(scope), afterDigests],
  })

  async function write(change: () => void): Promise<void> {
    try {
      await root.transaction(change)
    } catch (error) {
      throw await toWriteError(error, folder)
    }
  }

  return {
    ofScope: (scope) =>
      Array.from(rows.getRange(rangeOf(scope)), ({ key, value }) => ({
        digest: key[1] as Digest,
        row: value,
      })),
    get: (scope, digest) => rows.get([scopeId(scope), digest]),
    scopes() {
      const found: Scope[] = []
      for (let after: Key = ['', '']; ; ) {
        const [next] = rows.getKeys({ start: after, limit: 1 })
        if (next === undefined) return found
        found.push(parseScopeId(next[0]))
        after = [next[0], afterDigests]
      }
    },
    count: (scope) => rows.getKeysCount(rangeOf(scope)),
    replace: (scope, { put, remove }) =>
      write(() => {
        for (const digest of remove) void rows.remove([scopeId(scope), digest])
        if (put !== undefined) void rows.put([scopeId(scope), put.digest], put.row)
      }),
    clear: (scope) =>
      write(() => {
        for (const key of [...rows.getKeys(rangeOf(scope))]) void rows.remove(key)
      }),
    async [Symbol.asyncDispose]() {
      await root.close()
    },
  }
}

function openTables(folder: string): { root: RootDatabase; rows: Database<FragmentRow, Key> } {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const root = open(folder, {
      maxDbs: 4,
      compression: true,
      // The cache index says why both are off: a resolved write is then a durable one, and a failed one
      // rejects its own promise alone.
      overlappingSync: false,
      eventTurnBatching: false,
    })
    return { root, rows: root.openDB('fragments', { encoding: 'msgpack' }) }
  } catch (error) {
    throw toHearthError(error, `open the cache fragments in ${folder}`)
  }
}
