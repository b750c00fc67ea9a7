import { writeFile } from 'node:fs/promises'
import test from 'ava'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import type { CacheStore } from './index.ts'
import {
  blobFile,
  filesOf,
  fork,
  put,
  randomBlob,
  read,
  scope,
  stranger,
  temporaryStore,
} from './temporary-store.fixture.ts'

async function fileWith(store: CacheStore, bytes: Uint8Array): Promise<string> {
  const file = store.temporaryFile()
  await writeFile(file, bytes, { flag: 'wx', mode: 0o400 })
  return file
}

test('a file that was received is the blob, of the scope that it was received for', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(10_000)
  await store.take(scope, { digest, size: 10_000 }, await fileWith(store, bytes))
  t.true((await read(store, scope, digest))?.equals(bytes))
  t.is(store.stat(stranger, digest), undefined)
  t.is(store.size(digest), 10_000)
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
  t.is(store.projectBytes(scope.project), 10_000)
})

test('a file that somebody else was quicker with is thrown away', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  const file = await fileWith(store, bytes)
  await put(store, stranger, bytes)
  await store.take(scope, { digest, size: 1000 }, file)
  t.true((await read(store, scope, digest))?.equals(bytes))
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
})

test('a file of another size is none, and is gone', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  const taking = store.take(scope, { digest, size: 1001 }, await fileWith(store, bytes))
  t.is((await t.throwsAsync(taking, { instanceOf: HearthError }))?.code, 'corrupt')
  t.is(store.stat(scope, digest), undefined)
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})

test('what is received can be pinned before it is evicted, however little room there is', async (t) => {
  const { store } = await temporaryStore(t, { defaultPolicy: { bytesMax: 500, daysMax: 30 } })
  const { bytes, digest } = randomBlob(1000)
  const file = await fileWith(store, bytes)
  await store.take(scope, { digest, size: 1000 }, file)
  t.is(store.pin(scope, [digest]).held.size, 1)
})

test('a scope owns what is here and was proved to be its own, and nothing that is not here', async (t) => {
  const { store } = await temporaryStore(t)
  const { bytes } = randomBlob(1000)
  const digest = await put(store, stranger, bytes)
  t.is(store.stat(fork, digest), undefined)
  t.deepEqual(await store.own(fork, digest), { digest, size: 1000 })
  t.true((await read(store, fork, digest))?.equals(bytes))
  t.is(await store.own(fork, digestOf('nowhere')), undefined)
})

test('the file of a blob is named to its scopes alone', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const digest = await put(store, scope, randomBlob(1000).bytes)
  t.deepEqual(store.fileOf(scope, digest), { file: blobFile(folder, digest), size: 1000 })
  t.is(store.fileOf(stranger, digest), undefined)
})
