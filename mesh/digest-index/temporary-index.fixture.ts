/** An index in a folder of its own, for tests. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { silentLogger } from '../../core/log.ts'
import { type DigestIndex, type DigestIndexOptions, type Entry, openDigestIndex } from './index.ts'

export async function temporaryIndex(
  t: ExecutionContext,
  options: Partial<DigestIndexOptions> = {},
): Promise<{ index: DigestIndex; folder: string; close(): Promise<void> }> {
  let { folder } = options
  if (folder === undefined) {
    const made = await mkdtemp(path.join(os.tmpdir(), 'hearth-index-'))
    t.teardown(() => rm(made, { recursive: true, force: true }))
    folder = made
  }
  const index = await openDigestIndex({ log: silentLogger, ...options, folder })
  let closed: Promise<void> | undefined
  const close = () => {
    closed ??= Promise.resolve(index[Symbol.asyncDispose]())
    return closed
  }
  t.teardown(close)
  return { index, folder, close }
}

/** A key that is easy to make and to tell. */
export function testKey(number: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32BE(Math.imul(number, 0x9e3779b1) >>> 0)
  key.writeUInt32BE(number, 12)
  return key
}

export const byKey = (a: { key: Uint8Array }, b: { key: Uint8Array }) =>
  Buffer.compare(a.key, b.key)

/** What a node has, as plain text that compares well. */
export function contentOf(index: DigestIndex, node: string): string[] {
  return Array.from(index.entries(node), describeEntry)
}

export function describeEntry({ key, size, heat }: Entry): string {
  return `${Buffer.from(key).toString('hex')} ${size} ${heat}`
}
