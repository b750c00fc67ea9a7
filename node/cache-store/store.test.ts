import { once } from 'node:events'
import { rm, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate, setTimeout } from 'node:timers/promises'
import test from 'ava'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { scopeId } from '../../core/scope.ts'
import { openCacheStore } from './index.ts'
import {
  blobFile,
  filesOf,
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

const nothing = { blobs: 0, bytes: 0, scopes: new Map(), projects: new Map() }

test('what was written comes back, also after the store was closed and opened', async (t) => {
  const folder = await temporaryFolder(t)
  const { bytes, digest } = randomBlob(3_000_000)
  {
    await using store = await openCacheStore({ folder, log: silentLogger })
    t.is(store.stat(scope, digest), undefined)
    await put(store, scope, bytes)
    t.deepEqual(store.stat(scope, digest), { digest, size: bytes.length })
    t.deepEqual(await read(store, scope, digest), bytes)
  }
  const { store } = await temporaryStore(t, { folder })
  t.deepEqual(store.stat(scope, digest), { digest, size: bytes.length })
  t.deepEqual(await read(store, scope, digest), bytes)
  t.deepEqual((await filesOf(folder)).temporary, [])
})

test('an empty blob is a blob', async (t) => {
  const { store } = await temporaryStore(t)
  const digest = await put(store, scope, new Uint8Array())
  t.is(store.stat(scope, digest)?.size, 0)
  t.deepEqual(await read(store, scope, digest), Buffer.alloc(0))
})

test('pieces of any size make up a blob, and a piece may be overwritten once it is accepted', async (t) => {
  const { store } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(5_000_000)
  await using writer = await store.createWriter(scope)
  const sizes = [1, 17, 16_384, 262_143, 262_144, 262_145, 0, 2_500_000, 65_536]
  for (let start = 0, i = 0; start < bytes.length; i++) {
    const piece = Buffer.from(bytes.subarray(start, start + (sizes[i] ?? 700_000)))
    await writer.write(piece)
    start += piece.length
    t.is(writer.size, start)
    piece.fill(0)
  }
  await writer.commit(digest)
  t.true((await read(store, scope, digest))?.equals(bytes))
})

test('bytes that hash to something else are corrupt and leave nothing', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1_000_000)
  await using writer = await store.createWriter(scope)
  await writer.write(bytes.subarray(1))
  const error = await t.throwsAsync(writer.commit(digest), { instanceOf: HearthError })
  t.is(error?.code, 'corrupt')
  t.is(store.stat(scope, digest), undefined)
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
  t.is(store.usage().bytes, 0)
})

test('a writer that is disposed without commit leaves nothing', async (t) => {
  const { store, folder } = await temporaryStore(t)
  {
    await using writer = await store.createWriter(scope)
    await writer.write(randomBlob(1_000_000).bytes)
    t.is((await filesOf(folder)).temporary.length, 1)
  }
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})

test('several writers of one blob all succeed, and there is one blob', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(2_000_000)
  await Promise.all(
    [scope, scope, fork, stranger, scope].map(async (owner) => {
      t.is(await put(store, owner, bytes), digest)
      t.true((await read(store, owner, digest))?.equals(bytes))
    }),
  )
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
  t.is(store.usage().blobs, 1)
  t.is(store.usage().bytes, bytes.length)
})

test('scopes do not see each other, until one proves to hold the bytes or is given them', async (t) => {
  const { store } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  for (const other of [fork, stranger]) {
    t.is(store.stat(other, digest), undefined)
    t.is(await read(store, other, digest), undefined)
    t.is(store.pin(other, [digest]).held.size, 0)
    t.is(await store.share(other, scope, digest), undefined)
  }
  await put(store, stranger, bytes)
  t.true((await read(store, stranger, digest))?.equals(bytes))
  t.is(store.stat(fork, digest), undefined)
  t.deepEqual(await store.share(scope, fork, digest), { digest, size: 1000 })
  t.true((await read(store, fork, digest))?.equals(bytes))
})

test('a removed blob is gone for its scope and from the disk only with the last owner', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  await store.share(scope, stranger, digest)
  await store.remove(scope, digest)
  t.is(store.stat(scope, digest), undefined)
  t.true((await read(store, stranger, digest))?.equals(bytes))
  await store.remove(stranger, digest)
  t.deepEqual((await filesOf(folder)).blobs, [])
  t.deepEqual(store.usage(), nothing)
})

test('a reader keeps its bytes though the blob is removed meanwhile', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(4_000_000)
  await put(store, scope, bytes)
  const stream = await store.open(scope, digest, { signal: never })
  await store.remove(scope, digest)
  t.deepEqual((await filesOf(folder)).blobs, [])
  t.true(Buffer.concat((await stream?.toArray()) ?? []).equals(bytes))
})

test('a pinned blob survives removal and reset for its builds, and goes with the last pin', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  const missing = digestOf('missing')
  await put(store, scope, bytes)
  const pin = store.pin(scope, [digest, missing])
  const second = store.pin(scope, [])
  t.deepEqual(second.add([digest]), [{ digest, size: 1000 }])
  t.deepEqual([...pin.held.keys()], [digest])

  await store.remove(scope, digest)
  t.deepEqual(await store.reset(scope), { bytesFreed: 0 })
  t.is(store.stat(stranger, digest), undefined)
  pin[Symbol.dispose]()
  pin[Symbol.dispose]()
  t.true((await read(store, scope, digest))?.equals(bytes))

  second[Symbol.dispose]()
  t.is(store.stat(scope, digest), undefined)
  await store[Symbol.asyncDispose]()
  t.deepEqual((await filesOf(folder)).blobs, [])
})

test('a blob that is written again while it is being removed is there or not, never torn', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(10_000)
  for (let round = 0; round < 30; round++) {
    await Promise.all([
      put(store, scope, bytes),
      store.remove(scope, digest),
      put(store, stranger, bytes),
      store.remove(stranger, digest),
      store.share(stranger, fork, digest),
    ])
    for (const owner of [scope, stranger, fork]) {
      if (store.stat(owner, digest) === undefined) continue
      t.true((await read(store, owner, digest))?.equals(bytes))
    }
    await store.remove(fork, digest)
  }
  await store.remove(scope, digest)
  await store.remove(stranger, digest)
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
  t.deepEqual(store.usage(), nothing)
})

test('a late unlink spares the file that somebody has published again meanwhile', async (t) => {
  const removed = Promise.withResolvers<void>()
  const goOnRemoving = Promise.withResolvers<void>()
  const published = Promise.withResolvers<void>()
  const goOnPublishing = Promise.withResolvers<void>()
  let isFirst = true
  const { store } = await temporaryStore(t, {
    atPoint: async (point) => {
      if (point === 'row removed') {
        removed.resolve()
        await goOnRemoving.promise
      }
      if (point !== 'file published' || isFirst) return
      published.resolve()
      await goOnPublishing.promise
    },
  })
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  isFirst = false

  const removal = store.remove(scope, digest)
  await removed.promise
  const writing = put(store, stranger, bytes)
  await published.promise
  goOnRemoving.resolve()
  // The removal must wait for the writer, so there is nothing to wait for but time.
  await Promise.race([removal, setTimeout(100)])
  goOnPublishing.resolve()
  await Promise.all([writing, removal])
  t.true((await read(store, stranger, digest))?.equals(bytes))
})

test('a pin that ends at any moment of a removal leaves nothing behind', async (t) => {
  const { store, folder } = await temporaryStore(t)
  for (let turns = 0; turns < 30; turns++) {
    const digest = await put(store, scope, randomBlob(10).bytes)
    const pin = store.pin(scope, [digest])
    const removal = store.remove(scope, digest)
    for (let turn = 0; turn < turns; turn++) await setImmediate()
    pin[Symbol.dispose]()
    await removal
  }
  await store[Symbol.asyncDispose]()
  t.deepEqual((await filesOf(folder)).blobs, [])
})

test('reset removes everything of one scope and nothing of others', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const own = [randomBlob(1000), randomBlob(2000)]
  const shared = randomBlob(4000)
  for (const { bytes } of [...own, shared]) await put(store, scope, bytes)
  await store.share(scope, fork, shared.digest)
  const other = await put(store, stranger, randomBlob(500).bytes)
  t.deepEqual(await store.reset(scope), { bytesFreed: 3000 })
  for (const { digest } of [...own, shared]) t.is(store.stat(scope, digest), undefined)
  t.true((await read(store, fork, shared.digest))?.equals(shared.bytes))
  t.deepEqual((await filesOf(folder)).blobs.sort(), [shared.digest, other].sort())
  t.false(store.usage().scopes.has(scopeId(scope)))
})

test('usage counts each blob once on disk and in every scope that owns it', async (t) => {
  let now = 1000
  const { store, folder } = await temporaryStore(t, { clock: () => now })
  const first = await put(store, scope, randomBlob(100).bytes)
  await put(store, scope, randomBlob(50).bytes)
  now = 2000
  await store.share(scope, fork, first)
  const expected = {
    blobs: 2,
    bytes: 150,
    scopes: new Map([
      [scopeId(scope), { blobs: 2, bytes: 150, lastUsedAtMs: 1000 }],
      [scopeId(fork), { blobs: 1, bytes: 100, lastUsedAtMs: 2000 }],
    ]),
    projects: new Map([[scope.project, { blobs: 2, bytes: 150 }]]),
  }
  t.deepEqual(store.usage(), expected)
  now = 3000
  await read(store, fork, first)
  const used = { blobs: 1, bytes: 100, lastUsedAtMs: 3000 }
  t.deepEqual(store.usage().scopes.get(scopeId(fork)), used)
  await store[Symbol.asyncDispose]()
  const again = await temporaryStore(t, { folder })
  expected.scopes.set(scopeId(fork), used)
  // The order of scopes follows the digests, which are random.
  t.like(again.store.usage(), { blobs: 2, bytes: 150 })
  for (const [id, sum] of expected.scopes) t.deepEqual(again.store.usage().scopes.get(id), sum)
})

test('a blob whose file is missing or truncated is a miss, and can be written again', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(1000)
  for (const harm of [(file: string) => rm(file), (file: string) => truncate(file, 10)]) {
    await put(store, scope, bytes)
    await harm(blobFile(folder, digest))
    t.is(await read(store, scope, digest), undefined)
    t.is(store.stat(scope, digest), undefined)
    t.is(store.usage().bytes, 0)
  }
  await put(store, scope, bytes)
  t.true((await read(store, scope, digest))?.equals(bytes))
})

test('an aborted reader fails as aborted', async (t) => {
  const { store } = await temporaryStore(t)
  const digest = await put(store, scope, randomBlob(8_000_000).bytes)
  const aborting = new AbortController()
  const stream = await store.open(scope, digest, { signal: aborting.signal })
  t.truthy(stream)
  if (stream === undefined) return
  aborting.abort()
  const [error] = await once(stream, 'error')
  t.is((error as Error).name, 'AbortError')
  const refused = store.open(scope, digest, { signal: aborting.signal })
  t.is((await t.throwsAsync(refused, { instanceOf: HearthError }))?.code, 'cancelled')
})

test('a closed store refuses politely', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const writer = await store.createWriter(scope)
  await writer.write(Buffer.from('late'))
  const pin = store.pin(scope, [])
  await store[Symbol.asyncDispose]()
  t.throws(() => store.stat(scope, digestOf('x')), { instanceOf: HearthError })
  const late = await t.throwsAsync(writer.commit(digestOf('late')), { instanceOf: HearthError })
  t.is(late?.code, 'unavailable')
  await writer[Symbol.asyncDispose]()
  pin[Symbol.dispose]()
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})

test('a folder of another kind is refused before anything in it is touched', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(path.join(folder, 'format.json'), '{"kind":"coordinator","version":1}')
  const error = await t.throwsAsync(openCacheStore({ folder, log: silentLogger }), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'invalid-input')
})
