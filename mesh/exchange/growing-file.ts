/**
 * The file a blob grows in. Blocks come from several sources in any order; each byte is written once, by whoever
 * brings it first, and hashed in order: from memory while blocks come in order, read back from the file where
 * they did not.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { type Digest, digestOf, finishDigest } from '../../core/digest.ts'
import { type BlockPool, blockBytes } from './block-pool.ts'
import type { Piece } from './piece-plan.ts'

/** A block as one source brought it: `start` inclusive, `end` exclusive, in bytes. */
export interface BroughtBlock {
  readonly start: number
  readonly end: number
  readonly source: string
}

export interface GrowingFile extends AsyncDisposable {
  /** Takes what is new of a block; resolves when all of the piece up to its end is written, by whomever. */
  put(piece: Piece, block: Block): Promise<void>
  /** Hashes on from the file, up to a position before which all is written. */
  hashUpTo(position: number): Promise<void>
  /** Of the whole file, once everything is hashed. */
  digest(): Digest
  /** When all is there, and right. Resolves when the file has all its bytes, on disk if they are to be synced. */
  finish(options: { isSynced: boolean }): Promise<void>
  /** Who brought what is in the file: two may have been busy with one piece. */
  brought(): Iterable<BroughtBlock>
  /** Of a part that is written. */
  digestOf(part: { start: number; end: number }): Promise<Digest>
}

export interface Block {
  readonly source: string
  readonly buffer: Buffer
  /** Of the buffer, from its start. */
  readonly bytes: number
  /** In the blob. */
  readonly position: number
}

/** @param file must not exist yet. */
export async function createGrowingFile(
  deps: { blocks: BlockPool },
  file: string,
  size: number,
): Promise<GrowingFile> {
  // Nobody may write to it, not even its owner; this descriptor still can.
  const handle = await open(file, 'wx+', 0o400)
  try {
    await handle.truncate(size)
  } catch (error) {
    await handle.close()
    throw error
  }
  const hash = createHash('sha256')
  let hashed = 0
  /** Looks back at the file, one after the other. */
  let readingBack: Promise<void> = Promise.resolve()
  let readsBack = 0
  /** For each piece, where its next new byte belongs, and when all before that is written. */
  const heads = new Map<number, { next: number; written: Promise<void> }>()
  const brought: BroughtBlock[] = []

  async function readBack(position: number): Promise<void> {
    const block = deps.blocks.take()
    try {
      while (hashed < position) {
        const { bytesRead } = await handle.read(
          block,
          0,
          Math.min(blockBytes, position - hashed),
          hashed,
        )
        if (bytesRead === 0) throw new Error(`${file} became shorter while it was written`)
        hash.update(block.subarray(0, bytesRead))
        hashed += bytesRead
      }
    } finally {
      deps.blocks.give(block)
    }
  }

  return {
    async put(piece, { source, buffer, bytes, position }) {
      const head = heads.get(piece.index) ?? { next: piece.start, written: Promise.resolve() }
      // All sources are asked for a piece from its start and deliver it in blocks of the same size, so a block is
      // new as a whole or not at all.
      if (position !== head.next) return head.written
      if (position === hashed && readsBack === 0) {
        hash.update(buffer.subarray(0, bytes))
        hashed += bytes
      }
      brought.push({ start: position, end: position + bytes, source })
      const writing = writeAll(handle, buffer, bytes, position)
      const written = Promise.all([head.written, writing]).then(() => {})
      written.catch(() => {}) // Whoever put the block sees it.
      heads.set(piece.index, { next: position + bytes, written })
      await written
    },
    async hashUpTo(position) {
      if (hashed >= position) return
      readsBack += 1
      readingBack = readingBack.then(() => readBack(position))
      try {
        await readingBack
      } finally {
        readsBack -= 1
      }
    },
    digest: () => finishDigest(hash),
    async finish({ isSynced }) {
      if (isSynced) await handle.datasync()
    },
    brought: () => brought,
    async digestOf({ start, end }) {
      const bytes = Buffer.alloc(end - start)
      await handle.read(bytes, 0, bytes.length, start)
      return digestOf(bytes)
    },
    async [Symbol.asyncDispose]() {
      const open = [...heads.values()].map(({ written }) => written)
      await Promise.allSettled([...open, readingBack])
      await handle.close()
    },
  }
}

async function writeAll(
  handle: FileHandle,
  block: Buffer,
  bytes: number,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes; ) {
    const { bytesWritten } = await handle.write(block, done, bytes - done, position + done)
    done += bytesWritten
  }
}
