/** A cache store in a folder of its own, for tests. Folder and store go with the test. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import { type CacheStore, type CacheStoreOptions, openCacheStore } from './index.ts'

export const scope = makeScope('app', 'main')
export const fork = makeScope('app', 'fork-1')
export const stranger = makeScope('other', 'main')
export const never = new AbortController().signal

export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-cache-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export async function temporaryStore(
  t: ExecutionContext,
  options: Partial<CacheStoreOptions> = {},
): Promise<{ store: CacheStore; folder: string }> {
  const folder = options.folder ?? (await temporaryFolder(t))
  const store = await openCacheStore({ log: silentLogger, ...options, folder })
  t.teardown(() => store[Symbol.asyncDispose]())
  return { store, folder }
}

export function randomBlob(size: number): { bytes: Buffer; digest: Digest } {
  const bytes = randomBytes(size)
  return { bytes, digest: digestOf(bytes) }
}

export async function put(store: CacheStore, to: Scope, bytes: Uint8Array): Promise<Digest> {
  await using writer = await store.createWriter(to)
  await writer.write(bytes)
  return (await writer.commit(digestOf(bytes))).digest
}

/** All bytes of a blob, or undefined on a miss. */
export async function read(
  store: CacheStore,
  from: Scope,
  digest: Digest,
  range: { start?: number; end?: number } = {},
): Promise<Buffer | undefined> {
  const stream: Readable | undefined = await store.open(from, digest, { ...range, signal: never })
  return stream === undefined ? undefined : await buffer(stream)
}

export function blobFile(folder: string, digest: Digest): string {
  const hex = digest.slice('sha256:'.length)
  return path.join(folder, 'blobs', 'sha256', hex.slice(0, 2), hex)
}

/** Names of the files that the store keeps: complete blobs, and what is not complete yet. */
export async function filesOf(folder: string): Promise<{ blobs: string[]; temporary: string[] }> {
  const below = await readdir(path.join(folder, 'blobs'), { recursive: true, withFileTypes: true })
  return {
    blobs: below.filter((entry) => entry.isFile()).map((entry) => `sha256:${entry.name}`),
    temporary: await readdir(path.join(folder, 'tmp')),
  }
}

/** 99th percentile of how late the event loop was while something ran, in ms. */
export async function lateness(run: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  await run()
  delay.disable()
  return delay.percentile(99) / 1e6
}
