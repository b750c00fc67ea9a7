import { randomBytes } from 'node:crypto'
import test from 'ava'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { filesOf, never, read, scope, stranger } from '../temporary-store.fixture.ts'
import { createNodes, type TestNode } from './nodes.fixture.ts'

const signal = never
const limits = { pieceBytes: 1 << 20, stallMs: 5_000, hedgeMs: 2_000, connectMs: 10_000 }

async function holds(node: TestNode, digest: Digest, of = scope): Promise<boolean> {
  const bytes = await read(node.store, of, digest)
  return bytes !== undefined && digestOf(bytes) === digest
}

test.serial('what is in the store is held, and nobody is asked', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const bytes = randomBytes(1_000)
  const digest = await taker.hold(bytes)
  await giver.hold(bytes)
  nodes.advertise(digest, [giver])
  const blob = { digest, size: 1_000 }
  t.is(taker.sources.whereabouts(scope, blob), 'held')
  t.deepEqual(await taker.sources.bring(scope, blob, { signal }), { type: 'held' })
  t.deepEqual(giver.asked, [])
})

test.serial('a blob comes from a peer, for the scope that asked, and is held then', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const digest = await giver.hold(randomBytes(3_000_000))
  const blob = { digest, size: 3_000_000 }
  t.is(taker.sources.whereabouts(scope, blob), undefined)
  nodes.advertise(digest, [giver])
  t.is(taker.sources.whereabouts(scope, blob), 'near')
  const brought = await taker.sources.bring(scope, blob, { signal })
  t.deepEqual(brought, { type: 'brought', bytesBySource: new Map([['giver', 3_000_000]]) })
  t.true(await holds(taker, digest))
  t.is(taker.store.stat(stranger, digest), undefined)
  t.is(taker.sources.whereabouts(scope, blob), 'held')
  t.deepEqual(await filesOf(taker.folder), { blobs: [digest], temporary: [] })
  t.like(taker.sources.counts(), { brought: 1, missed: 0 })
})

test.serial('an empty blob comes too', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const digest = await giver.hold(new Uint8Array())
  nodes.advertise(digest, [giver])
  t.is((await taker.sources.bring(scope, { digest, size: 0 }, { signal })).type, 'brought')
  t.true(await holds(taker, digest))
})

test.serial('a peer gives a blob to nobody but its own scope', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const digest = await giver.hold(randomBytes(1_000), stranger)
  nodes.advertise(digest, [giver])
  const outcome = await taker.sources.bring(scope, { digest, size: 1_000 }, { signal })
  t.like(outcome, { type: 'missed', reason: 'giver: it does not have the blob (any more)' })
  t.is(taker.store.size(digest), undefined)
  t.deepEqual((await filesOf(taker.folder)).temporary, [])
})

test.serial('however many ask, a blob is fetched once, for each scope that asked', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const bytes = randomBytes(200_000)
  const digest = await giver.hold(bytes)
  await giver.hold(bytes, stranger)
  nodes.advertise(digest, [giver])
  const blob = { digest, size: bytes.length }
  const outcomes = await Promise.all(
    [scope, stranger, scope, stranger, scope].map((of, index) =>
      taker.sources.bring(of, blob, { isAhead: index % 2 === 0, signal }),
    ),
  )
  for (const outcome of outcomes) t.is(outcome.type, 'brought')
  t.deepEqual(giver.asked, [digest])
  t.true(await holds(taker, digest))
  t.true(await holds(taker, digest, stranger))
})

test.serial('what one scope was refused, another may still be given', async (t) => {
  const nodes = await createNodes(t)
  const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
  const digest = await giver.hold(randomBytes(1_000))
  nodes.advertise(digest, [giver])
  const blob = { digest, size: 1_000 }
  const [refused, given] = await Promise.all([
    taker.sources.bring(stranger, blob, { signal }),
    taker.sources.bring(scope, blob, { signal }),
  ])
  t.is(refused.type, 'missed')
  t.is(given.type, 'brought')
  t.is(taker.store.stat(stranger, digest), undefined)
})

test.serial('who has it warm is asked first, then who is nearest', async (t) => {
  const nodes = await createNodes(t)
  const [far, near, warm] = [
    await nodes.add('far'),
    await nodes.add('near'),
    await nodes.add('warm'),
  ]
  const taker = await nodes.add('taker', { exchange: { limits } })
  const bytes = randomBytes(1_000)
  for (const node of [far, near, warm]) await node.hold(bytes)
  const blob = { digest: digestOf(bytes), size: 1_000 }
  nodes.advertise(blob.digest, [
    { node: far, roundTripMs: 80 },
    { node: near, roundTripMs: 2 },
    { node: warm, roundTripMs: 100, heat: 'hot' },
  ])
  const outcome = await taker.sources.bring(scope, blob, { signal })
  t.deepEqual(outcome, { type: 'brought', bytesBySource: new Map([['warm', 1_000]]) })
  await taker.store.remove(scope, blob.digest)
  nodes.advertise(blob.digest, [
    { node: far, roundTripMs: 80 },
    { node: near, roundTripMs: 2 },
  ])
  const second = await taker.sources.bring(scope, blob, { signal })
  t.deepEqual(second, { type: 'brought', bytesBySource: new Map([['near', 1_000]]) })
})

test.serial(
  'the object store gives what no peer has, and what the peers fail to give',
  async (t) => {
    const nodes = await createNodes(t)
    const { objects, s3 } = nodes.objects
    const [empty, other] = [await nodes.add('empty'), await nodes.add('other')]
    const taker = await nodes.add('taker', { s3, exchange: { limits } })
    for (const holders of [[], [empty], [empty, other]]) {
      const bytes = randomBytes(5_000)
      const digest = digestOf(bytes)
      objects.set(digest, bytes)
      nodes.advertise(digest, holders)
      const blob = { digest, size: bytes.length }
      t.is(taker.sources.whereabouts(scope, blob), holders.length > 0 ? 'near' : 'far')
      const outcome = await taker.sources.bring(scope, blob, { signal })
      t.deepEqual(outcome, { type: 'brought', bytesBySource: new Map([['s3', 5_000]]) })
      t.true(await holds(taker, digest))
    }
  },
)

test.serial('an object store that has no URLs is read', async (t) => {
  const nodes = await createNodes(t)
  const { objects, s3 } = nodes.objects
  nodes.objects.hasUrls = false
  const taker = await nodes.add('taker', { s3 })
  const bytes = randomBytes(5_000)
  const blob = { digest: digestOf(bytes), size: bytes.length }
  objects.set(blob.digest, bytes)
  const outcome = await taker.sources.bring(scope, blob, { signal })
  t.deepEqual(outcome, { type: 'brought', bytesBySource: new Map([['s3', 5_000]]) })
  t.true(await holds(taker, blob.digest))

  const damaged = { digest: digestOf('something else'), size: 5_000 }
  objects.set(damaged.digest, bytes)
  const second = await taker.sources.bring(scope, damaged, { signal })
  t.is(second.type, 'missed')
  t.is(taker.store.size(damaged.digest), undefined)
  t.deepEqual(nodes.objects.faults, ['wrong bytes'])
})

test.serial('a damaged object is a miss, and its object store is told', async (t) => {
  const nodes = await createNodes(t)
  const { objects, s3 } = nodes.objects
  const taker = await nodes.add('taker', { s3 })
  const blob = { digest: digestOf('what it should be'), size: 5_000 }
  objects.set(blob.digest, randomBytes(5_000))
  const outcome = await taker.sources.bring(scope, blob, { signal })
  t.like(outcome, { type: 'missed', reason: 's3: what it sent does not hash to the digest' })
  t.deepEqual(nodes.objects.faults, ['wrong bytes'])
  t.is(taker.store.size(blob.digest), undefined)
  t.is(taker.sources.counts().faults.get('s3'), 1)
})

test.serial(
  'who asks for a digest with another size gets nothing, and blames nobody',
  async (t) => {
    const nodes = await createNodes(t)
    const [giver, taker] = [await nodes.add('giver'), await nodes.add('taker')]
    const digest = await giver.hold(randomBytes(1_000))
    nodes.advertise(digest, [giver])
    for (const size of [999, 1_001]) {
      const outcome = await taker.sources.bring(scope, { digest, size }, { signal })
      t.is(outcome.type, 'missed')
    }
    t.is((await taker.sources.bring(scope, { digest, size: 1_000 }, { signal })).type, 'brought')
    t.false(taker.log.some((line) => line.includes('wrong bytes')))
  },
)

test.serial(
  'one who gives up does not take it from the others, and the last one ends it',
  async (t) => {
    const nodes = await createNodes(t)
    const slow = { exchange: { uploadBytesPerS: 1 << 20 } }
    const [giver, taker] = [await nodes.add('giver', slow), await nodes.add('taker')]
    const bytes = randomBytes(3 << 20)
    const digest = await giver.hold(bytes)
    nodes.advertise(digest, [giver])
    const blob = { digest, size: bytes.length }
    const [first, second] = [new AbortController(), new AbortController()]
    const givenUp = taker.sources.bring(scope, blob, { signal: first.signal })
    const waited = taker.sources.bring(scope, blob, { signal: second.signal })
    first.abort()
    t.is((await t.throwsAsync(givenUp, { instanceOf: HearthError }))?.code, 'cancelled')
    t.is((await waited).type, 'brought')

    await taker.store.remove(scope, digest)
    const third = taker.sources.bring(scope, blob, { signal: AbortSignal.timeout(300) })
    t.is((await t.throwsAsync(third, { instanceOf: HearthError }))?.code, 'cancelled')
    await taker.sources[Symbol.asyncDispose]()
    t.is(taker.store.size(digest), undefined)
    t.deepEqual((await filesOf(taker.folder)).temporary, [])
  },
)

test.serial('what somebody waits for passes what is fetched ahead', async (t) => {
  const nodes = await createNodes(t)
  const giver = await nodes.add('giver')
  const taker = await nodes.add('taker', { sources: { fetchesMax: 1, aheadMax: 1 } })
  const blobs = await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      const digest = await giver.hold(randomBytes(10_000 + index))
      nodes.advertise(digest, [giver])
      return { digest, size: 10_000 + index }
    }),
  )
  const ahead = blobs.map((blob) => taker.sources.bring(scope, blob, { isAhead: true, signal }))
  const last = blobs.at(-1)
  if (last === undefined) return t.fail()
  t.is((await taker.sources.bring(scope, last, { signal })).type, 'brought')
  t.true(
    giver.asked.indexOf(last.digest) <= 1,
    `it came as number ${giver.asked.indexOf(last.digest)}`,
  )
  await Promise.all(ahead)
  t.deepEqual([...giver.asked].sort(), blobs.map(({ digest }) => digest).sort())
})

test.serial('what was brought can be pinned at once, however little room there is', async (t) => {
  const nodes = await createNodes(t)
  const giver = await nodes.add('giver')
  const store = { defaultPolicy: { bytesMax: 10, daysMax: 1 } }
  const taker = await nodes.add('taker', { store })
  const digest = await giver.hold(randomBytes(1_000))
  nodes.advertise(digest, [giver])
  await taker.sources.bring(scope, { digest, size: 1_000 }, { signal })
  t.is(taker.store.pin(scope, [digest]).held.size, 1)
})

test.serial('sources that are closed end what is under way', async (t) => {
  const nodes = await createNodes(t)
  const slow = { exchange: { uploadBytesPerS: 1 << 20 } }
  const [giver, taker] = [await nodes.add('giver', slow), await nodes.add('taker')]
  const digest = await giver.hold(randomBytes(4 << 20))
  nodes.advertise(digest, [giver])
  const bringing = taker.sources.bring(scope, { digest, size: 4 << 20 }, { signal })
  const failing = t.throwsAsync(bringing, { instanceOf: HearthError })
  await taker.sources[Symbol.asyncDispose]()
  t.is((await failing)?.code, 'cancelled')
  const late = taker.sources.bring(scope, { digest, size: 4 << 20 }, { signal })
  t.is((await t.throwsAsync(late, { instanceOf: HearthError }))?.code, 'cancelled')
})
