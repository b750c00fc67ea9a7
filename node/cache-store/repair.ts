/**
 * Brings files and rows together again after a crash, and counts what is there. Nothing is read but names
 * and sizes: whatever is under its final name was whole and on disk before it got there, so a file without
 * a row is only unknown, and a row can only lack its file after damage from outside.
 *
 * Goes through one two-hundred-fifty-sixth at a time, so that 100,000 blobs never hold the event loop long.
 */
import { rm } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import type { Digest } from '../../core/digest.ts'
import type { Logger } from '../../core/log.ts'
import type { Accounts } from './accounts.ts'
import { type BlobFiles, shardCount } from './blob-files.ts'
import type { BlobIndex, IndexedBlob } from './blob-index.ts'
import { projectOf } from './index-keys.ts'

export interface RepairReport {
  readonly blobs: number
  /** Files that no row names, a crash between rename and commit. */
  readonly filesRemoved: number
  /** Rows whose file is missing or of another size, or that nobody owns. */
  readonly rowsRemoved: number
}

export async function repair(deps: {
  files: BlobFiles
  index: BlobIndex
  accounts: Accounts
  log: Logger
}): Promise<RepairReport> {
  let blobs = 0
  let filesRemoved = 0
  let rowsRemoved = 0
  for (let shard = 0; shard < shardCount; shard++) {
    const found = repairShard(deps, shard)
    blobs += found.blobs
    filesRemoved += found.strayFiles.length
    rowsRemoved += found.badRows.length
    await removeRows(deps.index, found.badRows)
    for (const digest of [...found.strayFiles, ...found.badRows.map((row) => row.digest)]) {
      await rm(deps.files.pathOf(digest), { recursive: true, force: true })
    }
    await setImmediate()
  }
  const report = { blobs, filesRemoved, rowsRemoved }
  if (filesRemoved + rowsRemoved > 0) deps.log.warn(report, 'the cache store repaired itself')
  return report
}

function repairShard(
  deps: { files: BlobFiles; index: BlobIndex; accounts: Accounts; log: Logger },
  shard: number,
): { blobs: number; strayFiles: Digest[]; badRows: IndexedBlob[] } {
  const { blobs: files, foreign } = deps.files.list(shard)
  for (const file of foreign) deps.log.warn({ file }, 'a file in the cache store is not ours')
  const sizes = new Map(files.map(({ digest, size }) => [digest, size]))
  const badRows: IndexedBlob[] = []
  let blobs = 0
  for (const row of deps.index.shard(shard)) {
    const isGood = row.owners.length > 0 && sizes.get(row.digest) === row.size
    sizes.delete(row.digest)
    if (!isGood) {
      badRows.push(row)
      continue
    }
    blobs++
    enterAccounts(deps.accounts, row)
  }
  return { blobs, badRows, strayFiles: [...sizes.keys()] }
}

function enterAccounts(accounts: Accounts, { size, owners }: IndexedBlob): void {
  accounts.blobAdded(size)
  const projects = new Set<string>()
  for (const { scope, lastUsedAtMs } of owners) {
    const project = projectOf(scope)
    accounts.ownerAdded(scope, size, !projects.has(project))
    accounts.used(scope, lastUsedAtMs)
    projects.add(project)
  }
}

async function removeRows(index: BlobIndex, rows: readonly IndexedBlob[]): Promise<void> {
  if (rows.length === 0) return
  await index.write((writer) => {
    for (const { digest, owners } of rows) {
      for (const { scope } of owners) writer.removeOwner({ scope, digest })
      writer.removeBlob(digest)
    }
  })
}
