import { copyFile, link, lstat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import type { Digest } from '../../core/digest.ts'
import type { OutsideFile } from './index.ts'
import {
  blobFile,
  fork,
  never,
  put,
  randomBlob,
  read,
  scope,
  stranger,
  temporaryFolder,
  temporaryStore,
} from './temporary-store.fixture.ts'

async function outside(digest: Digest, file: string): Promise<OutsideFile> {
  return { digest, file, inode: (await lstat(file, { bigint: true })).ino }
}

test('a blob and another program’s file of the same bytes become one file on disk', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(100_000)
  await put(store, scope, bytes)
  await store.share(scope, fork, digest)
  const copy = path.join(await temporaryFolder(t), 'copy')
  await copyFile(blobFile(folder, digest), copy)
  const file = await outside(digest, copy)
  const reading = await store.open(scope, digest, { signal: never })

  t.deepEqual(
    await store.compare([file]),
    new Map([[digest, { isSameFile: false, projects: new Set(['app']) }]]),
  )
  t.is(await store.merge(file, { signal: never }), 100_000)
  t.is((await lstat(blobFile(folder, digest))).ino, (await lstat(copy)).ino)
  t.is((await lstat(copy)).mode & 0o222, 0)
  t.true((await store.compare([file])).get(digest)?.isSameFile)
  t.is(await store.merge(file, { signal: never }), 0)
  t.deepEqual(await read(store, fork, digest), bytes)
  t.deepEqual(Buffer.concat((await reading?.toArray()) ?? []), bytes)
})

test('a file with other bytes takes nobody’s place, nor does one of a blob that is not here', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  await put(store, stranger, bytes)
  const elsewhere = await temporaryFolder(t)
  const torn = path.join(elsewhere, 'torn')
  await writeFile(torn, bytes.subarray(0, 500))
  t.is(await store.merge(await outside(digest, torn), { signal: never }), 0)
  t.deepEqual(await read(store, stranger, digest), bytes)
  const unknown = randomBlob(1000)
  await writeFile(path.join(elsewhere, 'unknown'), unknown.bytes)
  const file = await outside(unknown.digest, path.join(elsewhere, 'unknown'))
  t.is(await store.merge(file, { signal: never }), 0)
  t.is((await store.compare([file])).size, 0)

  // Shared with somebody else already: to part the two would save nothing.
  await link(blobFile(folder, digest), path.join(elsewhere, 'linked'))
  await copyFile(blobFile(folder, digest), path.join(elsewhere, 'copy'))
  const copy = await outside(digest, path.join(elsewhere, 'copy'))
  t.is(await store.merge(copy, { signal: never }), 0)
})
