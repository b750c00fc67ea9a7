/**
 * The blob files: `blobs/sha256/ab/abcd…` for what is complete, `tmp/` for what is not yet.
 *
 * A file gets its final name only when its bytes are on disk, and keeps its content for as long as it has it.
 */
import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import path from 'node:path'
import { type Digest, digestHex, isDigest } from '../../core/digest.ts'
import { hasErrno, toHearthError } from '../../core/errors.ts'
import { syncFolder } from '../../core/format-version.ts'

export interface BlobFiles {
  pathOf(digest: Digest): string
  /** A name in `tmp/` that nothing else uses. */
  temporaryPath(): string
  /** Gives a synced temporary file its final name, durably. An older file of that name is replaced. */
  publish(temporary: string, digest: Digest): Promise<void>
  /** Removes a temporary file; one that is gone is fine. */
  discard(temporary: string): Promise<void>
  remove(digest: Digest): Promise<void>
  /** In bytes; undefined when there is no such file. */
  size(digest: Digest): Promise<number | undefined>
  /** Which file on disk the name stands for, and how many names that has; undefined when there is none. */
  identity(digest: Digest): Promise<{ inode: bigint; names: number } | undefined>
  /** The blobs whose first digest byte is `shard`, and names that are no blob's. Synchronous: a few ms. */
  list(shard: number): { blobs: { digest: Digest; size: number }[]; foreign: string[] }
}

/** By the first byte of the digest, as in OCI layouts of other stores: small folders stay fast. */
export const shardCount = 256

/** Makes the folders and empties `tmp/`: what a killed process left there belongs to nobody. */
export async function openBlobFiles(folder: string): Promise<BlobFiles> {
  const blobs = path.join(folder, 'blobs', 'sha256')
  const temporary = path.join(folder, 'tmp')
  await fs.rm(temporary, { recursive: true, force: true })
  mkdirSync(temporary, { recursive: true, mode: 0o700 })
  if (mkdirSync(blobs, { recursive: true, mode: 0o700 }) !== undefined) {
    for (const parent of [path.dirname(blobs), folder]) await syncFolder(parent)
  }

  let made = 0
  const pathOf = (digest: Digest) => {
    const hex = digestHex(digest)
    return path.join(blobs, hex.slice(0, 2), hex)
  }

  return {
    pathOf,
    temporaryPath() {
      made++
      return path.join(temporary, String(made))
    },
    async publish(file, digest) {
      const final = pathOf(digest)
      const shard = path.dirname(final)
      if ((await fs.mkdir(shard, { recursive: true, mode: 0o700 })) !== undefined) {
        await syncFolder(blobs)
      }
      await fs.rename(file, final)
      await syncFolder(shard)
    },
    async discard(file) {
      await fs.rm(file, { force: true })
    },
    async remove(digest) {
      await fs.rm(pathOf(digest), { force: true })
    },
    async size(digest) {
      try {
        return (await fs.lstat(pathOf(digest))).size
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw toHearthError(error, 'look at a blob file')
      }
    },
    async identity(digest) {
      try {
        const stat = await fs.lstat(pathOf(digest), { bigint: true })
        return { inode: stat.ino, names: Number(stat.nlink) }
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw toHearthError(error, 'look at a blob file')
      }
    },
    list(shard) {
      const found: { blobs: { digest: Digest; size: number }[]; foreign: string[] } = {
        blobs: [],
        foreign: [],
      }
      const parent = path.join(blobs, shardName(shard))
      for (const name of namesIn(parent)) {
        const digest = `sha256:${name}`
        if (!isDigest(digest) || !name.startsWith(shardName(shard))) {
          found.foreign.push(path.join(parent, name))
          continue
        }
        const stat = lstatSync(path.join(parent, name))
        // Whatever is no plain file holds no blob: a size that none has makes the repair remove it.
        found.blobs.push({ digest, size: stat.isFile() ? stat.size : -1 })
      }
      return found
    },
  }
}

/** Shards are made with their first blob. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return []
    throw toHearthError(error, 'list blob files')
  }
}

function shardName(shard: number): string {
  return shard.toString(16).padStart(2, '0')
}
