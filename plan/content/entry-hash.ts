/**
 * What BuildKit compares of one entry of a context: kind, permissions, and the bytes or the link's target
 * (cache/contenthash). Not the time. Clients send no owners: all files of a context belong to root.
 *
 * Extended attributes are not looked at, because Node cannot: a change in them alone goes unseen here.
 */
import { createHash } from 'node:crypto'
import { closeSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { hasErrno } from '../../core/errors.ts'
import type { FileCache } from './file-cache.ts'
import type { TreeEntry } from './visible-tree.ts'

/** What hashing has cost so far. */
export interface HashCount {
  files: number
  filesRead: number
  bytesRead: number
}

const chunk = Buffer.allocUnsafe(256 * 1024)

/** @returns undefined when the entry is gone. */
export function hashEntry(
  root: string,
  entry: TreeEntry,
  cache: FileCache,
  count: HashCount,
): string | undefined {
  const file = `${root}/${entry.path}`
  const readAtMs = Date.now()
  const stat = lstatSync(file, { throwIfNoEntry: false })
  if (stat === undefined) return undefined
  const permissions = (stat.mode & 0o7777).toString(8)
  if (stat.isDirectory()) return `folder ${permissions}`
  try {
    if (stat.isSymbolicLink()) return `link ${readlinkSync(file)}`
    if (!stat.isFile()) return `other ${stat.mode.toString(8)} ${stat.rdev}`
    count.files += 1
    const known = cache.find(entry.path, stat)
    if (known !== undefined) return `file ${permissions} ${known}`
    const read = hashFile(file)
    count.filesRead += 1
    count.bytesRead += read.bytes
    cache.remember(entry.path, stat, read.hex, readAtMs)
    return `file ${permissions} ${read.hex}`
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

function hashFile(file: string): { hex: string; bytes: number } {
  const hash = createHash('sha256')
  const descriptor = openSync(file, 'r')
  try {
    let bytes = 0
    for (;;) {
      const read = readSync(descriptor, chunk, 0, chunk.length, null)
      if (read === 0) return { hex: hash.digest('hex'), bytes }
      hash.update(chunk.subarray(0, read))
      bytes += read
    }
  } finally {
    closeSync(descriptor)
  }
}
