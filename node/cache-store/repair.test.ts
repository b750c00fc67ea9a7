import { link, mkdir, readdir, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { open } from 'lmdb'
import { pino } from 'pino'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { openBlobIndex } from './blob-index.ts'
import { openCacheStore } from './index.ts'
import {
  blobFile,
  filesOf,
  fork,
  put,
  randomBlob,
  read,
  scope,
  temporaryFolder,
  temporaryStore,
} from './temporary-store.fixture.ts'

/** A closed store with these blobs in it. */
async function storeWith(t: ExecutionContext, blobs: { bytes: Buffer }[]): Promise<string> {
  const folder = await temporaryFolder(t)
  await using store = await openCacheStore({ folder, log: silentLogger })
  for (const { bytes } of blobs) await put(store, scope, bytes)
  return folder
}

test('files without a row, rows without a file and files of the wrong size go at the start', async (t) => {
  const blobs = [1, 2, 3, 4].map((n) => randomBlob(n * 1000))
  const [good, missing, short, folderInstead] = blobs.map(({ digest }) => digest)
  if (!good || !missing || !short || !folderInstead) return t.fail()
  const folder = await storeWith(t, blobs)
  await unlink(blobFile(folder, missing))
  await truncate(blobFile(folder, short), 100)
  await rm(blobFile(folder, folderInstead))
  await mkdir(blobFile(folder, folderInstead))
  const stray = randomBlob(77)
  await mkdir(path.dirname(blobFile(folder, stray.digest)), { recursive: true })
  await writeFile(blobFile(folder, stray.digest), stray.bytes)
  await writeFile(path.join(folder, 'tmp', '1'), 'half')
  await link(blobFile(folder, good), path.join(folder, 'tmp', '2'))

  const { store } = await temporaryStore(t, { folder })
  for (const digest of [missing, short, folderInstead, stray.digest]) {
    t.is(store.stat(scope, digest), undefined)
  }
  t.is((await read(store, scope, good))?.length, 1000)
  t.deepEqual(await filesOf(folder), { blobs: [good], temporary: [] })
  t.is(store.usage().bytes, 1000)
  t.is(store.usage().scopes.get('app/main')?.blobs, 1)
})

test('a file that is not ours stays and is named in the log', async (t) => {
  const folder = await storeWith(t, [])
  const file = path.join(folder, 'blobs', 'sha256', '00', 'notes.txt')
  await mkdir(path.dirname(file))
  await writeFile(file, 'hello')
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => void lines.push(line) })
  const { store } = await temporaryStore(t, { folder, log })
  t.is(store.usage().blobs, 0)
  t.deepEqual(await readdir(path.dirname(file)), ['notes.txt'])
  t.true(lines.some((line) => line.includes(file)))
})

test('a blob that only a pin kept is gone after the next start', async (t) => {
  const blob = randomBlob(1000)
  const folder = await storeWith(t, [blob])
  const { store } = await temporaryStore(t, { folder })
  const pin = store.pin(scope, [blob.digest])
  await store.remove(scope, blob.digest)
  await store[Symbol.asyncDispose]()
  pin[Symbol.dispose]()
  const again = await temporaryStore(t, { folder })
  t.is(again.store.usage().blobs, 0)
  t.deepEqual((await filesOf(folder)).blobs, [])
})

test('an index that is no index is put aside, and the store starts empty', async (t) => {
  for (const garbage of [Buffer.alloc(100_000, 7), Buffer.from('short')]) {
    const folder = await storeWith(t, [randomBlob(1000)])
    await writeFile(path.join(folder, 'index', 'data.mdb'), garbage)
    const { store } = await temporaryStore(t, { folder })
    t.is(store.usage().blobs, 0)
    const digest = await put(store, fork, randomBlob(10).bytes)
    t.deepEqual((await filesOf(folder)).blobs, [digest])
    const aside = (await readdir(folder)).find((name) => name.startsWith('index.damaged-'))
    t.truthy(aside)
  }
})

test('an index of a newer Hearth is refused untouched', async (t) => {
  const blob = randomBlob(1000)
  const folder = await storeWith(t, [blob])
  {
    const root = open(path.join(folder, 'index'), { maxDbs: 8, overlappingSync: false })
    await root.openDB('meta', { encoding: 'msgpack' }).put('version', 99)
    await root.close()
  }
  for (let i = 0; i < 2; i++) {
    const opening = openCacheStore({ folder, log: silentLogger })
    const error = await t.throwsAsync(opening, { instanceOf: HearthError })
    t.is(error?.code, 'version')
  }
  t.deepEqual((await filesOf(folder)).blobs, [blob.digest])
})

test.serial(
  '25,000 blobs are repaired and counted in a moment, in many turns of the event loop',
  async (t) => {
    const folder = await storeWith(t, [])
    const digests = Array.from({ length: 25_000 }, (_, i) => digestOf(String(i)))
    {
      await using index = openBlobIndex(path.join(folder, 'index'))
      await index.write((rows) => {
        for (const digest of digests) {
          rows.putBlob({ digest, size: 3 })
          rows.putOwner({ scope: 'app/main', digest, lastUsedAtMs: 1 })
        }
      })
    }
    // Links of one file: quicker to make than files.
    const source = path.join(folder, 'three-bytes')
    await writeFile(source, 'abc')
    const shards = new Set(digests.map((digest) => path.dirname(blobFile(folder, digest))))
    for (const shard of shards) await mkdir(shard)
    for (let start = 0; start < digests.length; start += 1000) {
      const slice = digests.slice(start, start + 1000)
      await Promise.all(slice.map((digest) => link(source, blobFile(folder, digest))))
    }
    // Counts turns of the event loop rather than time: a busy machine makes any loop late.
    let turns = 0
    let isOpen = false
    const count = async () => {
      for (; !isOpen; turns++) await setImmediate()
    }
    const counting = count()
    const before = process.threadCpuUsage()
    const { store } = await temporaryStore(t, { folder })
    const used = process.threadCpuUsage(before)
    isOpen = true
    await counting
    t.is(store.usage().blobs, digests.length)
    const usedMs = (used.user + used.system) / 1000
    t.log(`${usedMs.toFixed(0)} ms of the thread in ${turns} turns`)
    // Measured: 18 µs a blob.
    t.true(usedMs < 5000)
    t.true(turns > 200)
  },
)
