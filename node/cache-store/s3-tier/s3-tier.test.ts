import { buffer } from 'node:stream/consumers'
import test from 'ava'
import { type Digest, digestHex, digestOf } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import { fork, never, scope } from '../temporary-store.fixture.ts'
import { startFaultyProxy } from './faulty-proxy.fixture.ts'
import {
  makeFragment,
  ownPlace,
  putObject,
  removeObject,
  sharedS3,
  startNode,
  until,
} from './tier.fixture.ts'

const s3 = sharedS3(test)
const all = { known: new Set<Digest>(), signal: never }

test('what one node keeps, a node that has never seen it finds and reads', async (t) => {
  const url = ownPlace(s3())
  const first = await startNode(t, s3(), url)
  const fragment = await makeFragment(first.store, [100_000, 0, 1])
  await first.tier.keep(scope, fragment)

  const second = await startNode(t, s3(), url)
  const [found, ...more] = await second.tier.fragments(scope, all)
  t.is(more.length, 0)
  t.deepEqual(Buffer.from(found?.bytes ?? []), Buffer.from(fragment.bytes))
  t.deepEqual(Buffer.from(found?.statement ?? []), Buffer.from(fragment.statement))
  t.deepEqual(found?.blobs, fragment.blobs)
  for (const blob of fragment.blobs) {
    t.true(second.tier.has(blob.digest))
    const source = await second.tier.read(blob, { signal: never })
    t.is(source && digestOf(await buffer(source)), blob.digest)
    const answer = await fetch(await second.tier.urlOf(blob.digest))
    t.is(digestOf(Buffer.from(await answer.arrayBuffer())), blob.digest)
  }
})

test('a blob of many parts arrives whole', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url, { limits: { partBytes: 5 * mib } })
  const fragment = await makeFragment(store, [70 * mib + 12_345])
  await tier.keep(scope, fragment)
  const [blob] = fragment.blobs
  const source = blob && (await tier.read(blob, { signal: never }))
  t.is(source && digestOf(await buffer(source)), blob?.digest)
})

test('fragments of another line are not given', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  await tier.keep(scope, await makeFragment(store, [10]))
  t.deepEqual(await tier.fragments(fork, all), [])
})

test('what a node knows already is not read again, and what it believes survives a restart', async (t) => {
  const url = ownPlace(s3())
  const writer = await startNode(t, s3(), url)
  const fragment = await makeFragment(writer.store, [1000])
  await writer.tier.keep(scope, fragment)

  const proxy = await startFaultyProxy(t, s3())
  const reads = () => proxy.requests.filter((request) => /^GET .*fragments\/\w/.test(request))
  const first = await startNode(t, proxy.server, url)
  t.is((await first.tier.fragments(scope, all)).length, 1)
  const known = new Set([digestOf(fragment.bytes)])
  t.deepEqual(await first.tier.fragments(scope, { known, signal: never }), [])
  t.is(reads().length, 1)
  await first.tier[Symbol.asyncDispose]()

  const { tier } = await startNode(t, proxy.server, url, {
    folder: first.folder,
    store: first.store,
  })
  t.true(fragment.blobs.every(({ digest }) => tier.has(digest)))
  t.deepEqual(await tier.fragments(scope, { known, signal: never }), [])
  t.is(reads().length, 1)
})

test('a fragment that is known from elsewhere is read once, for what it names', async (t) => {
  const url = ownPlace(s3())
  const writer = await startNode(t, s3(), url)
  const fragment = await makeFragment(writer.store, [1000])
  await writer.tier.keep(scope, fragment)
  const { tier } = await startNode(t, s3(), url)
  const known = new Set([digestOf(fragment.bytes)])
  t.deepEqual(await tier.fragments(scope, { known, signal: never }), [])
  t.true(fragment.blobs.every(({ digest }) => tier.has(digest)))
})

test('a blob that is there is not uploaded again, whichever node brought it', async (t) => {
  const url = ownPlace(s3())
  const first = await startNode(t, s3(), url)
  const fragment = await makeFragment(first.store, [1000, 2000])
  await first.tier.keep(scope, fragment)

  const proxy = await startFaultyProxy(t, s3())
  const second = await startNode(t, proxy.server, url, { store: first.store })
  const more = await makeFragment(first.store, [3000])
  await second.tier.keep(scope, { ...more, blobs: [...fragment.blobs, ...more.blobs] })
  const puts = proxy.requests.filter((request) => /^PUT .*blobs\//.test(request))
  t.deepEqual(
    puts.map((request) => request.slice(-64)),
    [digestHex(more.blobs[0]?.digest ?? digestOf(''))],
  )
})

test('a fragment that was kept a moment ago costs one look', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  const { store, tier } = await startNode(t, proxy.server, url)
  const fragment = await makeFragment(store, [1000, 2000])
  await tier.keep(scope, fragment)
  proxy.requests.length = 0
  await tier.keep(scope, fragment)
  t.is(proxy.requests.length, 1)
  t.regex(proxy.requests[0] ?? '', /^HEAD .*fragments/)
})

test('of blobs that an earlier fragment vouches for, none is asked for again', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  const { store, tier } = await startNode(t, proxy.server, url)
  const fragment = await makeFragment(store, [1, 2, 3, 4, 5])
  await tier.keep(scope, fragment)
  t.is((await tier.fragments(scope, all)).length, 1)
  const more = await makeFragment(store, [6])
  proxy.requests.length = 0
  await tier.keep(scope, { ...more, blobs: [...fragment.blobs, ...more.blobs] })
  const looks = proxy.requests.filter((request) => /^HEAD .*blobs\//.test(request))
  t.deepEqual(new Set(looks.map((request) => request.slice(-64))).size, 1)
})

test('a blob that a reader has missed stays missed when its fragment is read once more', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  const fragment = await makeFragment(store, [1000])
  const [blob] = fragment.blobs
  if (blob === undefined) return t.fail()
  await tier.keep(scope, fragment)
  tier.reportFault(blob.digest, { reason: 'absent', message: 'a reader says so' })
  await until(() => !tier.has(blob.digest))
  t.is((await tier.fragments(scope, all)).length, 1)
  t.false(tier.has(blob.digest))
})

test('a blob that was evicted before its upload takes the fragment with it', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  const fragment = await makeFragment(store, [1000, 2000])
  await store.remove(scope, fragment.blobs[1]?.digest ?? digestOf(''))
  t.like(await t.throwsAsync(tier.keep(scope, fragment)), { code: 'not-found' })
  t.is(tier.state().queuedFragments, 0)
  t.deepEqual(await tier.fragments(scope, all), [])
})

test('a blob that a reader misses is uploaded again by whoever keeps it next', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  const fragment = await makeFragment(store, [1000])
  const [blob] = fragment.blobs
  if (blob === undefined) return t.fail()
  await tier.keep(scope, fragment)
  for (const reason of ['absent', 'wrong bytes'] as const) {
    const key = `${url.split('/').at(-1)}/blobs/sha256/${digestHex(blob.digest)}`
    await putObject(s3(), key, Buffer.from('x'.repeat(1000)))
    tier.reportFault(blob.digest, { reason, message: 'a reader says so' })
    await until(() => !tier.has(blob.digest))
    if (reason === 'absent') await removeObject(s3(), key)
    await tier.keep(scope, fragment)
    t.true(tier.has(blob.digest))
    const source = await tier.read(blob, { signal: never })
    t.is(source && digestOf(await buffer(source)), blob.digest)
  }
  await removeObject(s3(), `${url.split('/').at(-1)}/blobs/sha256/${digestHex(blob.digest)}`)
  t.is(await tier.read(blob, { signal: never }), undefined)
  await until(() => !tier.has(blob.digest))
})

test('two keeps of one fragment are one upload; a newer statement takes the place of the older', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  const { store, tier } = await startNode(t, proxy.server, url)
  const fragment = await makeFragment(store, [1000])
  await Promise.all([tier.keep(scope, fragment), tier.keep(scope, fragment)])
  const puts = () => proxy.requests.filter((request) => /^PUT .*fragments\//.test(request)).length
  t.is(puts(), 1)
  const statement = Buffer.from('signed by another')
  await Promise.all([tier.keep(scope, fragment), tier.keep(scope, { ...fragment, statement })])
  const [found] = await tier.fragments(scope, all)
  t.deepEqual(Buffer.from(found?.statement ?? []), statement)
})

test('what does not fit the queue gives way to what is newer; what is too large is refused', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  proxy.breakWith(() => 'reset')
  const limits = { queuedFragmentsMax: 2 }
  const { store, tier } = await startNode(t, proxy.server, url, { limits })
  const fragments = [
    await makeFragment(store, [10]),
    await makeFragment(store, [10]),
    await makeFragment(store, [10]),
  ]
  const kept = fragments.map((fragment) => tier.keep(scope, fragment))
  t.like(await t.throwsAsync(kept[0] ?? Promise.resolve()), { code: 'exhausted' })
  t.is(tier.state().queuedFragments, 2)
  proxy.breakWith(() => undefined)
  await Promise.all(kept.slice(1))
  const large = { ...(await makeFragment(store, [10])), bytes: Buffer.alloc(17 * mib) }
  t.like(await t.throwsAsync(tier.keep(scope, large)), { code: 'invalid-input' })
})

test('a project that is reset has no fragments, here and on other nodes', async (t) => {
  const url = ownPlace(s3())
  const first = await startNode(t, s3(), url)
  const second = await startNode(t, s3(), url)
  const fragment = await makeFragment(first.store, [10])
  await first.tier.keep(scope, fragment)
  t.is((await second.tier.fragments(scope, all)).length, 1)
  await first.tier.reset(scope.project, { signal: never })
  t.deepEqual(await first.tier.fragments(scope, all), [])
  await until(async () => (await second.tier.fragments(scope, all)).length === 0)
  t.false(fragment.blobs.some(({ digest }) => second.tier.has(digest)))
})

test('memory does not grow with the size of a blob', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  const fragment = await makeFragment(store, [200 * mib])
  globalThis.gc?.()
  const before = process.memoryUsage.rss()
  let peak = before
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }, 10)
  await tier.keep(scope, fragment)
  clearInterval(watch)
  t.true(peak - before < 130 * mib, `${Math.round((peak - before) / mib)} MiB`)
})
