/** Where statements are kept: one row each, and those that were forgotten. */
import { mkdirSync } from 'node:fs'
import { type Database, open } from 'lmdb'
import { z } from 'zod'
import type { Digest } from '../../core/digest.ts'
import { toHearthError } from '../../core/errors.ts'
import { refuseNewer } from '../../core/format-version.ts'
import { setAsideDamage, toWriteError } from '../../core/lmdb-failure.ts'
import type { Logger } from '../../core/log.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { SignedFragment } from './index.ts'

export interface FragmentKey {
  readonly scope: ScopeId
  readonly digest: Digest
}

export interface RowWriter {
  put(key: FragmentKey, signed: SignedFragment): void
  remove(key: FragmentKey): void
  /** @param rank of the statement that is not wanted any more (shelf.ts). */
  putForgotten(key: FragmentKey, rank: number): void
  removeForgotten(key: FragmentKey): void
}

export interface FragmentRows extends AsyncDisposable {
  statements(): Iterable<{ key: FragmentKey; signed: SignedFragment }>
  get(key: FragmentKey): SignedFragment | undefined
  forgotten(): Iterable<{ key: FragmentKey; rank: number }>
  /**
   * In one transaction, on disk when it resolves.
   * @throws HearthError `exhausted` when the disk is full, else `internal`
   */
  write(change: (rows: RowWriter) => void): Promise<void>
}

const rowsVersion = 1

type Key = [scope: string, digest: string]

/** @throws HearthError `environment`, `version` when a newer Hearth wrote it. */
export async function openFragmentRows(folder: string, log: Logger): Promise<FragmentRows> {
  await setAsideDamage(folder, log)
  const { root, statements, forgotten, meta } = openTables(folder)
  try {
    const version = z.int().parse(meta.get('version') ?? rowsVersion)
    refuseNewer(`the statements of fragments in ${folder}`, version, rowsVersion)
    meta.putSync('version', rowsVersion)
  } catch (error) {
    root.close().catch(() => {})
    throw error
  }
  const keyOf = ({ scope, digest }: FragmentKey): Key => [scope, digest]
  const toKey = ([scope, digest]: Key): FragmentKey => ({
    scope: scope as ScopeId,
    digest: digest as Digest,
  })
  const writer: RowWriter = {
    put: (key, signed) => void statements.put(keyOf(key), Buffer.from(signed)),
    remove: (key) => void statements.remove(keyOf(key)),
    putForgotten: (key, rank) => void forgotten.put(keyOf(key), rank),
    removeForgotten: (key) => void forgotten.remove(keyOf(key)),
  }

  return {
    statements: () =>
      statements.getRange().map(({ key, value }) => ({ key: toKey(key), signed: value })),
    get: (key) => statements.get(keyOf(key)),
    forgotten: () =>
      forgotten.getRange().map(({ key, value }) => ({ key: toKey(key), rank: value })),
    async write(change) {
      try {
        await root.transaction(() => change(writer))
      } catch (error) {
        throw await toWriteError(error, folder)
      }
    },
    [Symbol.asyncDispose]: () => root.close(),
  }
}

function openTables(folder: string) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const root = open(folder, { maxDbs: 8, overlappingSync: false, eventTurnBatching: false })
    const statements: Database<Buffer, Key> = root.openDB('statements', { encoding: 'binary' })
    const forgotten: Database<number, Key> = root.openDB('forgotten', { encoding: 'msgpack' })
    const meta: Database<unknown, string> = root.openDB('meta', { encoding: 'msgpack' })
    return { root, statements, forgotten, meta }
  } catch (error) {
    throw toHearthError(error, `open the statements of fragments in ${folder}`)
  }
}
