import { chmod, link, mkdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import {
  blobFile,
  filesOf,
  fork,
  lateness,
  never,
  put,
  randomBlob,
  read,
  scope,
  stranger,
  temporaryFolder,
  temporaryStore,
} from './temporary-store.fixture.ts'

/** A store, and a file beside it such as another program's content store would hold. */
async function withFile(t: ExecutionContext, bytes: Uint8Array) {
  const parent = await temporaryFolder(t)
  const file = path.join(parent, 'file')
  await writeFile(file, bytes)
  const { store, folder } = await temporaryStore(t, { folder: path.join(parent, 'store') })
  return { store, folder, file }
}

test('an adopted file is the same file, not a copy, and can no longer be written to', async (t) => {
  const { bytes, digest } = randomBlob(2_000_000)
  const { store, folder, file } = await withFile(t, bytes)
  const outcome = await store.adopt(scope, digest, file, { signal: never })
  t.deepEqual(outcome, { type: 'adopted', size: bytes.length })
  const kept = await stat(blobFile(folder, digest))
  t.is(kept.ino, (await stat(file)).ino)
  t.is(kept.mode & 0o222, 0)
  t.true((await read(store, scope, digest))?.equals(bytes))
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
  t.deepEqual(await store.adopt(scope, digest, file, { signal: never }), {
    type: 'already held',
    size: bytes.length,
  })
})

test('a removed blob leaves the file it was adopted from alone', async (t) => {
  const { bytes, digest } = randomBlob(1000)
  const { store, file } = await withFile(t, bytes)
  await store.adopt(scope, digest, file, { signal: never })
  await store.remove(scope, digest)
  t.deepEqual(await readFile(file), bytes)
})

test('a file with other content is refused and leaves nothing', async (t) => {
  const { store, folder, file } = await withFile(t, randomBlob(1000).bytes)
  const { digest } = randomBlob(1000)
  t.deepEqual(await store.adopt(scope, digest, file, { signal: never }), {
    type: 'refused',
    reason: 'content does not match',
  })
  t.is(store.stat(scope, digest), undefined)
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
  t.is((await stat(file)).mode & 0o200, 0o200)
})

test('a file that is missing, a folder, a symbolic link or elsewhere is refused for what it is', async (t) => {
  const { bytes, digest } = randomBlob(1000)
  const { store, folder, file } = await withFile(t, bytes)
  const parent = path.dirname(file)
  await mkdir(path.join(parent, 'sub'))
  await symlink(file, path.join(parent, 'symbolic'))
  const reasonOf = async (name: string) => {
    const outcome = await store.adopt(scope, digest, path.resolve(parent, name), { signal: never })
    return outcome.type === 'refused' ? outcome.reason : outcome.type
  }
  t.is(await reasonOf('missing'), 'no such file')
  t.is(await reasonOf('file/below'), 'no such file')
  t.is(await reasonOf('sub'), 'cannot be linked')
  t.is(await reasonOf('symbolic'), 'cannot be linked')
  t.is(await reasonOf('/proc/self/stat'), 'other file system')
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})

test('a scope that brings the file of a blob held by others gets to see it, and nothing is stored twice', async (t) => {
  const { bytes, digest } = randomBlob(1000)
  const { store, folder, file } = await withFile(t, bytes)
  await put(store, stranger, bytes)
  const outcome = await store.adopt(scope, digest, file, { signal: never })
  t.deepEqual(outcome, { type: 'adopted', size: 1000 })
  t.is(store.usage().bytes, 1000)
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
})

test('adopting and writing one blob at once, from several links of one file, is fine', async (t) => {
  const { bytes, digest } = randomBlob(500_000)
  const { store, folder, file } = await withFile(t, bytes)
  await link(file, `${file}-2`)
  const outcomes = await Promise.all([
    store.adopt(scope, digest, file, { signal: never }),
    store.adopt(fork, digest, `${file}-2`, { signal: never }),
    store.adopt(stranger, digest, file, { signal: never }),
    put(store, scope, bytes),
  ])
  t.false(outcomes.some((outcome) => typeof outcome === 'object' && outcome.type === 'refused'))
  for (const owner of [scope, fork, stranger]) {
    t.true((await read(store, owner, digest))?.equals(bytes))
  }
  t.deepEqual(await filesOf(folder), { blobs: [digest], temporary: [] })
})

test('a file that is already read-only is adopted as it is', async (t) => {
  const { bytes, digest } = randomBlob(1000)
  const { store, file } = await withFile(t, bytes)
  await chmod(file, 0o444)
  t.is((await store.adopt(scope, digest, file, { signal: never })).type, 'adopted')
  t.is((await stat(file)).mode & 0o777, 0o444)
})

/** Takes half a minute to hash, and no space. */
async function withEndlessFile(t: ExecutionContext) {
  const parts = await withFile(t, new Uint8Array())
  await truncate(parts.file, 50e9)
  return parts
}

test('a cancelled adoption ends at once, begun or waiting, and leaves nothing', async (t) => {
  const { store, folder, file } = await withEndlessFile(t)
  const aborting = new AbortController()
  const adopting = [scope, fork].map((owner) => store.adopt(owner, digestOf('?'), file, aborting))
  const outcomes = Promise.allSettled(adopting)
  while ((await filesOf(folder)).temporary.length < 2);
  const startedMs = performance.now()
  aborting.abort()
  for (const outcome of await outcomes) {
    t.is(outcome.status, 'rejected')
    const reason = outcome.status === 'rejected' ? outcome.reason : undefined
    t.true(reason instanceof HearthError && reason.code === 'cancelled')
  }
  t.deepEqual((await filesOf(folder)).temporary, [])
  // The thread is free again, too.
  const { bytes, digest } = randomBlob(1000)
  await writeFile(`${file}-2`, bytes)
  t.is((await store.adopt(scope, digest, `${file}-2`, { signal: never })).type, 'adopted')
  t.true(performance.now() - startedMs < 5000)
})

test('a store that closes does not wait for a long adoption', async (t) => {
  const { store, folder, file } = await withEndlessFile(t)
  const adopting = t.throwsAsync(store.adopt(scope, digestOf('?'), file, { signal: never }), {
    instanceOf: HearthError,
  })
  await store[Symbol.asyncDispose]()
  t.is((await adopting)?.code, 'cancelled')
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})

test.serial('the event loop stays free while 300 MB are adopted', async (t) => {
  // Others keep a busy machine from running us now and then, but not every time.
  for (const fill of ['x', 'y', 'z']) {
    const bytes = Buffer.alloc(300_000_000, fill)
    const digest = digestOf(bytes)
    const { store, file } = await withFile(t, bytes)
    const idleMs = await lateness(() => setTimeout(500))
    const before = process.threadCpuUsage()
    const p99Ms = await lateness(async () => {
      const outcome = await store.adopt(scope, digest, file, { signal: never })
      t.deepEqual(outcome, { type: 'adopted', size: bytes.length })
    })
    const used = process.threadCpuUsage(before)
    const usedMs = (used.user + used.system) / 1000
    t.log(`p99 ${p99Ms.toFixed(1)} ms, idle ${idleMs.toFixed(1)} ms, used ${usedMs.toFixed(0)} ms`)
    // Hashing alone would take 160 ms of this thread at least.
    t.true(usedMs < 120)
    if (p99Ms < 50 + idleMs) return
  }
  t.fail('the loop was late by more than 50 ms each time')
})
