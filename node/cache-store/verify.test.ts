import { chmod, copyFile, open, rename, rm, truncate } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import type { Digest } from '../../core/digest.ts'
import type { CacheStore, VerifyEvent } from './index.ts'
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
  temporaryStore,
} from './temporary-store.fixture.ts'

async function flipByte(file: string, at: number): Promise<void> {
  await chmod(file, 0o600)
  await using handle = await open(file, 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, at)
  byte.writeUInt8(byte.readUInt8() ^ 1)
  await handle.write(byte, 0, 1, at)
}

async function verify(store: CacheStore, project?: string) {
  const events: VerifyEvent[] = []
  const options = { signal: never, ...(project === undefined ? {} : { project }) }
  for await (const event of store.verify(options)) events.push(event)
  const problems = new Map<Digest, string>()
  for (const event of events) {
    if (event.type === 'finding') problems.set(event.digest, event.problem)
  }
  return { problems, last: events.at(-1), events }
}

test('a sound store has no findings, and progress ends at the total', async (t) => {
  const { store } = await temporaryStore(t)
  for (let i = 0; i < 5; i++) await put(store, scope, randomBlob(1000).bytes)
  const { problems, last, events } = await verify(store)
  t.is(problems.size, 0)
  t.deepEqual(last, { type: 'summary', blobs: 5, bytes: 5000, findings: 0 })
  const progress = events.filter((event) => event.type === 'progress')
  t.deepEqual(progress.at(0), {
    type: 'progress',
    blobsDone: 0,
    blobsTotal: 5,
    bytesDone: 0,
  })
  t.deepEqual(progress.at(-1), {
    type: 'progress',
    blobsDone: 5,
    blobsTotal: 5,
    bytesDone: 5000,
  })
})

test('a flipped byte, a truncated file and a missing one are found, removed and reported', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const [good, flipped, short, missing] = [
    randomBlob(3_000_000),
    randomBlob(3_000_000),
    randomBlob(1000),
    randomBlob(1000),
  ]
  for (const { bytes } of [good, flipped, short, missing]) await put(store, scope, bytes)
  await store.share(scope, stranger, flipped.digest)
  await flipByte(blobFile(folder, flipped.digest), 2_500_000)
  await truncate(blobFile(folder, short.digest), 999)
  await rm(blobFile(folder, missing.digest))

  using _pin = store.pin(scope, [flipped.digest])
  const { problems, last } = await verify(store)
  t.regex(problems.get(flipped.digest) ?? '', /^hashes to sha256:/)
  t.is(problems.get(short.digest), 'has 999 bytes instead of 1000')
  t.is(problems.get(missing.digest), 'its file is missing')
  t.is(problems.size, 3)
  t.like(last, { type: 'summary', blobs: 4, findings: 3 })

  for (const { digest } of [flipped, short, missing]) {
    t.is(store.stat(scope, digest), undefined)
    t.is(await read(store, scope, digest), undefined)
  }
  t.is(store.stat(stranger, flipped.digest), undefined)
  t.true((await read(store, scope, good.digest))?.equals(good.bytes))
  t.deepEqual((await filesOf(folder)).blobs, [good.digest])
  t.is(store.usage().bytes, 3_000_000)
  t.is((await verify(store)).problems.size, 0)

  await put(store, scope, flipped.bytes)
  t.true((await read(store, scope, flipped.digest))?.equals(flipped.bytes))
})

test('verifying one project reads its lines alone, each blob once', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const shared = randomBlob(100)
  const other = randomBlob(200)
  await put(store, scope, shared.bytes)
  await put(store, fork, shared.bytes)
  await put(store, stranger, other.bytes)
  await flipByte(blobFile(folder, other.digest), 0)
  const { last } = await verify(store, 'app')
  t.deepEqual(last, { type: 'summary', blobs: 1, bytes: 100, findings: 0 })
  t.deepEqual([...(await verify(store, 'other')).problems.keys()], [other.digest])
})

test('blobs that come and go while a store is verified are no findings', async (t) => {
  const { store } = await temporaryStore(t)
  const blobs = Array.from({ length: 40 }, () => randomBlob(20_000))
  for (const { bytes } of blobs) await put(store, scope, bytes)
  const churn = async () => {
    for (const { bytes, digest } of blobs) {
      await store.remove(scope, digest)
      await put(store, scope, bytes)
    }
  }
  const [{ problems }] = await Promise.all([verify(store), churn()])
  t.is(problems.size, 0)
  for (const { bytes, digest } of blobs) {
    t.true((await read(store, scope, digest))?.equals(bytes))
  }
})

test('a file that was replaced while the old one was read back is not blamed for it', async (t) => {
  const { store, folder } = await temporaryStore(t)
  const { bytes, digest } = randomBlob(100_000_000)
  await put(store, scope, bytes)
  // Starts the thread, so that it reads the moment it is asked.
  t.is((await verify(store)).problems.size, 0)
  const file = blobFile(folder, digest)
  await copyFile(file, `${folder}/good`)
  await flipByte(file, bytes.length - 1)
  const events = store.verify({ signal: never })[Symbol.asyncIterator]()
  await events.next()
  const checked = events.next()
  await setTimeout(10)
  await rename(`${folder}/good`, file)
  t.like(await checked, { value: { type: 'progress' } })
  t.deepEqual(store.stat(scope, digest), { digest, size: bytes.length })
  t.is((await verify(store)).problems.size, 0)
})

test('verifying stops when told to', async (t) => {
  const { store } = await temporaryStore(t)
  for (let i = 0; i < 3; i++) await put(store, scope, randomBlob(1000).bytes)
  const aborting = new AbortController()
  await t.throwsAsync(
    async () => {
      for await (const event of store.verify(aborting)) {
        if (event.type === 'progress') aborting.abort()
      }
    },
    { message: /cancelled/ },
  )
})
