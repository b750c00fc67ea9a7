/**
 * The LMDB environment of the index.
 *
 * Commits are not synced: the index can be had again from the others, and a commit per slice with a sync each
 * would hold the event loop. A killed process loses nothing by that, since the kernel has the pages; a machine
 * that lost power may have a torn file, so what another boot of the machine wrote is thrown away.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { type Database, open, type RootDatabase } from 'lmdb'
import { z } from 'zod'
import { toHearthError } from '../../core/errors.ts'
import { refuseNewer, writeFileDurably } from '../../core/format-version.ts'

/** Raised by a change that an older Hearth would misread. */
const indexVersion = 1

export interface Tables {
  readonly root: RootDatabase
  /** Key -> row.ts */
  readonly rows: Database<Buffer, Buffer>
  /** Node -> its number and position. */
  readonly nodes: Database<unknown, string>
  /** Numbers that are not a node's: free, or still in rows. */
  readonly numbers: Database<unknown, string>
}

export async function openTables(folder: string, mapBytes: number): Promise<Tables> {
  const bootFile = path.join(folder, 'boot')
  const boot = bootOf()
  const data = path.join(folder, 'data')
  if (boot === '' || readOrNothing(bootFile) !== boot)
    rmSync(data, { recursive: true, force: true })
  mkdirSync(data, { recursive: true, mode: 0o700 })
  await writeFileDurably(bootFile, boot)
  const tables = openEnvironment(data, mapBytes)
  const meta: Database<unknown, string> = tables.root.openDB('meta', { encoding: 'msgpack' })
  try {
    const version = z
      .int()
      .default(indexVersion)
      .parse(meta.get('version') ?? undefined)
    refuseNewer(`the index of the mesh in ${folder}`, version, indexVersion)
    meta.putSync('version', indexVersion)
  } catch (error) {
    tables.root.close().catch(() => {})
    throw error
  }
  return tables
}

function openEnvironment(folder: string, mapBytes: number): Tables {
  try {
    const root = open(folder, {
      maxDbs: 8,
      mapSize: mapBytes,
      noSync: true,
      overlappingSync: false,
      eventTurnBatching: false,
    })
    return {
      root,
      rows: root.openDB('rows', { encoding: 'binary', keyEncoding: 'binary' }),
      nodes: root.openDB('nodes', { encoding: 'msgpack' }),
      numbers: root.openDB('numbers', { encoding: 'msgpack' }),
    }
  } catch (error) {
    throw toHearthError(error, `open the index of the mesh in ${folder}`)
  }
}

function bootOf(): string {
  return readOrNothing('/proc/sys/kernel/random/boot_id')?.trim() ?? ''
}

function readOrNothing(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
