/**
 * The thread that reads files back and hashes them, so that the event loop does not. One file at a time;
 * the reads are plain blocking ones, in pieces large enough for the disk and small enough to stop between.
 */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import type { HashAnswer, HashRequest } from './hasher.ts'

/** 1 MiB: larger reads gain nothing, smaller ones cost a fifth (measured with a cached file). */
const buffer = Buffer.allocUnsafeSlow(1024 * 1024)

parentPort?.on('message', (request: HashRequest) => {
  parentPort?.postMessage(answer(request))
})

function answer({ file, stop }: HashRequest): HashAnswer {
  try {
    return hashFile(file, new Int32Array(stop))
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    return { type: 'failed', code, message }
  }
}

function hashFile(file: string, stop: Int32Array): HashAnswer {
  const descriptor = openSync(file, 'r')
  try {
    const before = fstatSync(descriptor, { bigint: true })
    const hash = createHash('sha256')
    let size = 0
    for (;;) {
      if (Atomics.load(stop, 0) !== 0) return { type: 'stopped' }
      const bytesRead = readSync(descriptor, buffer, 0, buffer.length, size)
      if (bytesRead === 0) break
      hash.update(buffer.subarray(0, bytesRead))
      size += bytesRead
    }
    const after = fstatSync(descriptor, { bigint: true })
    // Not ctime: making or removing another link of the file changes that.
    const inode = after.ino
    if (before.mtimeNs !== after.mtimeNs || before.size !== after.size) {
      return { type: 'changed', inode }
    }
    return { type: 'hashed', hex: hash.digest('hex'), size, inode }
  } finally {
    closeSync(descriptor)
  }
}
