/** What a failed LMDB transaction means, and what becomes of a file that is no LMDB environment. */
import { open, rename, statfs } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, hasErrno } from './errors.ts'
import { mib } from './limits.ts'
import type { Logger } from './log.ts'

/** LMDB reports a full disk as an input/output error, so the free space decides. */
const fullBelowBytes = 1 * mib

/**
 * lmdb rejects with "Commit failed" and keeps the reason in a second promise, which must be caught too or
 * it ends the process.
 * @param folder of the environment; it names it in the message.
 */
export async function toWriteError(error: unknown, folder: string): Promise<HearthError> {
  const reason = (error as { commitError?: unknown }).commitError
  const cause = reason instanceof Promise ? await reason.catch((real: unknown) => real) : error
  if (await isFull(folder)) {
    return new HearthError('exhausted', `the disk of ${folder} is full`, {
      hint: 'free some disk space',
      cause,
    })
  }
  const text = cause instanceof Error ? cause.message : String(cause)
  return new HearthError('internal', `cannot write the index in ${folder}: ${text}`, { cause })
}

async function isFull(folder: string): Promise<boolean> {
  const space = await statfs(folder)
  return space.bavail * space.bsize < fullBelowBytes
}

/**
 * An index that no crash of ours can leave behind, only a broken disk or a stranger's hand: put aside, so
 * that its owner starts with an empty one rather than not at all. For what may be forgotten, such as a cache.
 */
export async function setAsideDamage(folder: string, log: Logger): Promise<void> {
  if (!(await isNoEnvironment(path.join(folder, 'data.mdb')))) return
  const aside = `${folder}.damaged-${Date.now()}`
  await rename(folder, aside)
  log.error({ aside }, 'an index was damaged and is put aside; it starts empty')
}

// `mm_magic` of LMDB's first meta page (MDB_MAGIC in lmdb's mdb.c), after a page header that is
// 24 bytes in lmdb 3.
const magic = 0xbeefc0de
const magicOffset = 24
const headBytes = 28

/**
 * True when the file is there and cannot be an LMDB environment. LMDB itself crashes on such a file, and
 * takes the process along, so ask before it opens.
 */
async function isNoEnvironment(file: string): Promise<boolean> {
  try {
    await using handle = await open(file, 'r')
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0)
    // An empty file is a new environment to LMDB.
    return bytesRead > 0 && (bytesRead < headBytes || buffer.readUInt32LE(magicOffset) !== magic)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
}
