/**
 * A blob on its way in: bytes go to a temporary file and through the hash at once; `commit` publishes it.
 *
 * Small pieces (an HTTP body comes in 16 to 64 KiB) are gathered first: at that size every write to the file
 * costs more than the bytes in it (16 KiB: 510 MB/s, 256 KiB: 1,600 and more, measured).
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { type Digest, finishDigest } from '../../core/digest.ts'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { kib, mib } from '../../core/limits.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobFiles } from './blob-files.ts'
import type { Gate } from './gate.ts'
import type { BlobInfo, BlobWriter } from './index.ts'

const gatherBytes = 256 * kib
/** Hashed on the event loop in one go: about 0.6 ms. */
const pieceBytes = 1 * mib

export async function createBlobWriter(
  deps: {
    files: BlobFiles
    gate: Gate
    publish: (scope: ScopeId, temporary: string, blob: BlobInfo) => Promise<void>
  },
  scope: ScopeId,
): Promise<BlobWriter> {
  const temporary = deps.files.temporaryPath()
  // Nobody may write to it, not even its owner; this descriptor still can.
  const handle = await openNew(temporary)
  const hash = createHash('sha256')
  const gathered = Buffer.allocUnsafeSlow(gatherBytes)
  let gatheredBytes = 0
  let size = 0
  let state: 'open' | 'broken' | 'closed' = 'open'
  let busy = false

  /** The kernel copies while this thread hashes. */
  const put = async (bytes: Uint8Array) => {
    const writing = writeFully(handle, bytes)
    hash.update(bytes)
    await writing
  }
  const flush = async () => {
    if (gatheredBytes === 0) return
    await put(gathered.subarray(0, gatheredBytes))
    gatheredBytes = 0
  }
  const accept = async (bytes: Uint8Array) => {
    if (gatheredBytes + bytes.length > gatherBytes) await flush()
    if (bytes.length < gatherBytes) {
      gathered.set(bytes, gatheredBytes)
      gatheredBytes += bytes.length
      return
    }
    for (let start = 0; start < bytes.length; start += pieceBytes) {
      await put(bytes.subarray(start, start + pieceBytes))
    }
  }
  const close = async () => {
    if (state === 'closed') return
    state = 'closed'
    await handle.close()
  }
  /** One call at a time; after a failure nothing more is taken. */
  const alone = async <T>(doing: string, run: () => Promise<T>): Promise<T> => {
    assert(!busy, 'a blob writer was called before its last call had resolved')
    assert(
      state === 'open',
      'a blob writer was used after it had failed, committed or been disposed',
    )
    busy = true
    try {
      return await run()
    } catch (error) {
      if (state === 'open') state = 'broken'
      throw toHearthError(error, doing)
    } finally {
      busy = false
    }
  }

  return {
    get size() {
      return size
    },
    write(bytes) {
      return alone('write a blob', async () => {
        await accept(bytes)
        size += bytes.length
      })
    },
    commit(digest) {
      return alone('write a blob', async () => {
        using _inside = deps.gate.enter()
        try {
          await flush()
          requireDigest(finishDigest(hash), digest)
          await handle.sync()
          await close()
          await deps.publish(scope, temporary, { digest, size })
          return { digest, size }
        } finally {
          await close()
          await deps.files.discard(temporary)
        }
      })
    },
    async [Symbol.asyncDispose]() {
      await close()
      await deps.files.discard(temporary)
    },
  }
}

async function openNew(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'wx', 0o400)
  } catch (error) {
    throw toHearthError(error, 'start a blob')
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, written)
    written += bytesWritten
  }
}

function requireDigest(found: Digest, wanted: Digest): void {
  if (found === wanted) return
  throw new HearthError('corrupt', `the bytes hash to ${found}, not to ${wanted}`, {
    hint: 'send them again',
  })
}
