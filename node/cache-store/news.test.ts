import { access } from 'node:fs/promises'
import test from 'ava'
import type { Digest } from '../../core/digest.ts'
import type { BlobInfo, BlobWatcher } from './index.ts'
import {
  blobFile,
  put,
  randomBlob,
  scope,
  stranger,
  temporaryStore,
} from './temporary-store.fixture.ts'

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false,
  )

/** Believes what it is told. */
function believer(): BlobWatcher & { believed: Map<Digest, number>; told: string[] } {
  const believed = new Map<Digest, number>()
  const told: string[] = []
  return {
    believed,
    told,
    onGained({ digest, size }: BlobInfo) {
      believed.set(digest, size)
      told.push(`gained ${digest}`)
    },
    async beforeLost(digests) {
      for (const digest of digests) {
        believed.delete(digest)
        told.push(`lost ${digest}`)
      }
    },
  }
}

test('a watcher hears of a blob once, however many own it, and when it is visible', async (t) => {
  const { store } = await temporaryStore(t)
  const watcher = believer()
  store.watch(watcher)
  store.watch({
    onGained: ({ digest, size }) => t.deepEqual(store.stat(scope, digest), { digest, size }),
    beforeLost: async () => {},
  })
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  await put(store, stranger, bytes)
  t.deepEqual(watcher.told, [`gained ${digest}`])
  await store.remove(scope, digest)
  t.deepEqual(watcher.told, [`gained ${digest}`])
  await store.remove(stranger, digest)
  t.deepEqual(watcher.told, [`gained ${digest}`, `lost ${digest}`])
})

test('a lost blob keeps its file until every watcher has dealt with it, and is seen by nobody', async (t) => {
  const { store, folder } = await temporaryStore(t, { lostMsMax: 60_000 })
  const told = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  store.watch({
    onGained: () => {},
    async beforeLost(digests) {
      if (!digests.includes(digest)) return
      told.resolve()
      await goOn.promise
    },
  })
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  const removal = store.remove(scope, digest)
  await told.promise
  // What nobody waits for goes meanwhile.
  await store.remove(scope, await put(store, scope, randomBlob(1000).bytes))
  t.is(store.stat(scope, digest), undefined)
  t.is(store.size(digest), undefined)
  t.true(await exists(blobFile(folder, digest)))
  goOn.resolve()
  await removal
  t.false(await exists(blobFile(folder, digest)))
})

for (const [title, beforeLost] of [
  ['never answers', () => new Promise<void>(() => {})],
  ['fails', () => Promise.reject(new Error('no mesh'))],
] as const) {
  test(`a watcher that ${title} does not keep a blob on disk`, async (t) => {
    const { store, folder } = await temporaryStore(t, { lostMsMax: 20 })
    store.watch({ onGained: () => {}, beforeLost })
    const { bytes, digest } = randomBlob(1000)
    await put(store, scope, bytes)
    await store.remove(scope, digest)
    t.false(await exists(blobFile(folder, digest)))
  })
}

test('who does not watch any more hears nothing, and one that throws harms nobody', async (t) => {
  const { store } = await temporaryStore(t)
  const watcher = believer()
  const throwing = {
    onGained() {
      throw new Error('on purpose')
    },
    beforeLost: async () => {},
  }
  using _throwing = store.watch(throwing)
  const watching = store.watch(watcher)
  const first = await put(store, scope, randomBlob(10).bytes)
  watching[Symbol.dispose]()
  await put(store, scope, randomBlob(10).bytes)
  t.deepEqual(watcher.told, [`gained ${first}`])
})

test('at rest a watcher believes exactly what the store holds, whatever went on', async (t) => {
  const { store } = await temporaryStore(t)
  const watcher = believer()
  store.watch(watcher)
  const blobs = Array.from({ length: 4 }, () => randomBlob(100))
  for (let round = 0; round < 40; round++) {
    await Promise.all(
      blobs.flatMap(({ bytes, digest }) => [
        put(store, scope, bytes),
        store.remove(scope, digest),
        put(store, stranger, bytes),
        store.remove(stranger, digest),
        ...(round % 10 === 0 ? [store.reset(scope)] : []),
      ]),
    )
    const held = Array.from(store.blobs(), ({ digest, size }) => [digest, size] as const)
    t.deepEqual([...watcher.believed].sort(), held.sort())
  }
})

test('a walk gives every blob once, in the order of digests', async (t) => {
  const { store } = await temporaryStore(t)
  const digests = await Promise.all(
    Array.from({ length: 300 }, (_, count) =>
      put(store, count % 2 === 0 ? scope : stranger, randomBlob(8 + count).bytes),
    ),
  )
  t.deepEqual(
    Array.from(store.blobs(), ({ digest }) => digest),
    digests.sort(),
  )
})
