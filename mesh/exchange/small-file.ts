/**
 * A blob of one block on its way: kept in memory until it is whole and right, then written at once. A build's
 * small blobs are many, and five calls into the pool of threads for each cost several times what the bytes do.
 */
import { closeSync, fdatasync, openSync, unlinkSync, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { type Digest, digestOf } from '../../core/digest.ts'
import type { BroughtBlock, GrowingFile } from './growing-file.ts'

const syncToDisk = promisify(fdatasync)

/** @param file must not exist yet. */
export function createSmallFile(file: string): GrowingFile {
  let bytes: Buffer = Buffer.alloc(0)
  let brought: BroughtBlock | undefined

  return {
    async put(_piece, block) {
      // Whoever is second brings the same, or something else that does not count.
      if (brought !== undefined) return
      bytes = Buffer.from(block.buffer.subarray(0, block.bytes))
      brought = { start: 0, end: block.bytes, source: block.source }
    },
    async hashUpTo() {},
    digest: (): Digest => digestOf(bytes),
    async finish({ isSynced }) {
      const descriptor = openSync(file, 'wx', 0o400)
      try {
        for (let written = 0; written < bytes.length; ) {
          written += writeSync(descriptor, bytes, written)
        }
        if (isSynced) await syncToDisk(descriptor)
      } catch (error) {
        unlinkSync(file)
        throw error
      } finally {
        closeSync(descriptor)
      }
    },
    brought: () => (brought === undefined ? [] : [brought]),
    digestOf: async ({ start, end }) => digestOf(bytes.subarray(start, end)),
    async [Symbol.asyncDispose]() {},
  }
}
