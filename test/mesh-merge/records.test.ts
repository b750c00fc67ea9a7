import test from 'ava'
import { digestOf } from '../../core/digest.ts'
import { eventually } from '../../mesh/peers.fixture.ts'
import {
  layerBytes,
  names,
  put,
  servedDigests,
} from '../../node/buildkit-runner/records/pushed-records.fixture.ts'
import { startS3 } from '../harness/index.ts'
import { createMergeNodes, type MergeNode, scope, until } from './nodes.ts'

const signal = AbortSignal.timeout(5 * 60_000)
const layers = (text: string) => [...text].map((name) => digestOf(layerBytes(name))).sort()

async function serves(node: MergeNode, text: string): Promise<void> {
  const wanted = layers(text).join()
  await until(async () => (await node.served()).join() === wanted, `${text} at ${node.name}`)
}

test('what one node has built, a fresh one serves, and brings only what is asked for', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  await nodes.add('two')
  const { fragment } = await one.build(names('abc'))
  t.deepEqual(await one.records.settled(scope, fragment, { signal }), { type: 'kept' })
  const fresh = await nodes.add('fresh')
  t.is(fresh.records.count(scope), 0)
  await serves(fresh, 'abc')
  t.is(fresh.records.count(scope), 1)
  t.is(fresh.store.stat(scope, layers('a')[0] ?? fragment), undefined)
  using composed = await fresh.compose()
  t.deepEqual([...composed.pin.held], [], 'what is elsewhere cannot be pinned')
  t.deepEqual(composed.lacked, [])
  const blob = { digest: digestOf(layerBytes('b')), size: layerBytes('b').length }
  t.like(await fresh.sources.bring(scope, blob, { signal }), { type: 'brought' })
})

test('builds of three nodes at the same time become one record on all of them', async (t) => {
  const nodes = await createMergeNodes(t)
  const all = [await nodes.add('one'), await nodes.add('two'), await nodes.add('three')]
  // They share two steps, which each has made with bytes of its own.
  const builds = all.map((node, each) =>
    node.build([
      { name: 'a', layer: `a of ${node.name}` },
      { name: 'b', layer: `b of ${node.name}` },
      { name: 'xyz'.charAt(each) },
    ]),
  )
  const kept = await Promise.all(builds)
  for (const [each, node] of all.entries()) {
    const settled = await node.records.settled(scope, kept[each]?.fragment ?? digestOf(''), {
      signal,
    })
    t.deepEqual(settled, { type: 'kept' })
    for (const other of all) {
      await until(async () => {
        await other.served()
        return other.records.count(scope) === 3
      }, `the fragments of ${other.name}`)
    }
  }
  const counts = await Promise.all(
    all.map(async (node) => {
      using composed = await node.compose()
      t.is(new Set(servedDigests(composed)).size, composed.layers)
      return composed.records
    }),
  )
  t.deepEqual(counts, [5, 5, 5], 'two that they share, and one of each')
  // A later build that holds all that an earlier one held makes that one superfluous, everywhere.
  const [first, second] = all
  if (first === undefined || second === undefined) return t.fail()
  const next = await first.build([
    ...[
      { name: 'a', layer: 'a of two' },
      { name: 'b', layer: 'b of two' },
    ],
    ...[{ name: 'y' }, { name: 'last' }],
  ])
  await first.records.settled(scope, next.fragment, { signal })
  for (const node of all) {
    await until(async () => {
      await node.served()
      return node.news.of(scope).every(({ statement }) => statement.isKept)
    }, 'the word that it is kept')
    await until(async () => {
      await node.served()
      return node.records.count(scope) === 3
    }, `what is left at ${node.name}`)
    const left = node.news.of(scope).map(({ statement }) => statement.digest)
    t.false(left.includes(kept[1]?.fragment ?? next.fragment), node.name)
    t.true(left.includes(next.fragment))
  }
})

test('a fragment is kept once another node has all of it, which then outlives its maker', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  const two = await nodes.add('two')
  const { fragment } = await one.build(names('abc'))
  t.deepEqual(await one.records.settled(scope, fragment, { signal }), { type: 'kept' })
  for (const each of layers('abc')) t.not(two.store.stat(scope, each), undefined)
  t.not(two.store.stat(scope, fragment), undefined)
  await eventually(() => two.news.of(scope)[0]?.statement.isKept === true, 'the word of it')
  await one.stop()
  const late = await nodes.add('late')
  await serves(late, 'abc')
  for (const name of 'abc') {
    const blob = { digest: digestOf(layerBytes(name)), size: layerBytes(name).length }
    // It may have made second copies already.
    const { type } = await late.sources.bring(scope, blob, { signal })
    t.true(type === 'brought' || type === 'held', type)
  }
})

test('what was made by a node alone gets its second copy when another comes', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  const { fragment } = await one.build(names('abc'))
  t.deepEqual(await one.records.settled(scope, fragment, { signal }), { type: 'kept' })
  const two = await nodes.add('two')
  await eventually(
    () => layers('abc').every((each) => two.store.stat(scope, each) !== undefined),
    'the second copies',
  )
  await one.stop()
  const late = await nodes.add('late')
  await serves(late, 'abc')
})

test('what a build has reused without reading it counts as kept once it is in two places', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  await one.build(names('abc'))
  const two = await nodes.add('two')
  await serves(two, 'abc')
  await put(two.store, scope, layerBytes('d'))
  const { fragment } = await two.build(names('abcd'), { withoutBlobs: true })
  t.deepEqual(await two.records.settled(scope, fragment, { signal }), { type: 'kept' })
  for (const each of layers('abcd')) {
    t.not(one.store.stat(scope, each), undefined)
    t.not(two.store.stat(scope, each), undefined)
  }
})

test('without a second node that can be reached, the report says where the cache is', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one', { settleMsMax: 100 })
  const two = await nodes.add('two')
  await two.stop()
  const { fragment } = await one.build(names('abc'))
  const settled = await one.records.settled(scope, fragment, { signal })
  t.is(settled.type, 'kept here only')
  t.regex(settled.type === 'kept' ? '' : settled.reason, /^no other node /)
  t.deepEqual(await one.served(), layers('abc'), 'and it is used here all the same')
})

test('what was on its way to a second place goes on after a restart', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  const two = await nodes.add('two')
  await two.stop()
  const { fragment } = await one.build(names('abc'))
  const stopping = new AbortController()
  const waiting = one.records.settled(scope, fragment, { signal: stopping.signal })
  stopping.abort()
  t.like(await waiting, { type: 'kept here only' })
  await one.stop()
  const again = await nodes.add('one', { data: one.folder })
  t.false(again.news.of(scope)[0]?.statement.isKept)
  await nodes.add('two', { data: two.folder })
  await eventually(() => again.news.of(scope)[0]?.statement.isKept === true, 'a second place')
  t.deepEqual(await again.served(), layers('abc'))
})

test('what nobody can deliver any more is left out, and named', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  const two = await nodes.add('two')
  const { fragment } = await one.build(names('ab'))
  await one.records.settled(scope, fragment, { signal })
  await two.served()
  const lost = digestOf(layerBytes('b'))
  for (const node of [one, two]) await node.store.remove(scope, lost)
  await until(async () => (await one.served()).length === 1, 'a record without it')
  await until(async () => (await two.served()).length === 1, 'a record without it')
  using composed = await two.compose()
  t.is(composed.lacked.length, 1)
  t.regex(composed.lacked[0] ?? '', new RegExp(`^layer ${lost.slice(0, 19)} .*nobody`))
  // Whoever makes it again gives it to all.
  await put(one.store, scope, layerBytes('b'))
  await serves(two, 'ab')
})

test('a fragment that is none is not used, and its maker is named', async (t) => {
  const nodes = await createMergeNodes(t)
  const bad = await nodes.add('bad')
  const one = await nodes.add('one')
  await one.build(names('a'))
  const { digest, size } = await put(bad.store, scope, '{"version":1,"descriptors":7}')
  await bad.news.publish({ scope, digest, size, sequence: 9, isKept: true })
  const huge = digestOf('huge')
  await bad.news.publish({ scope, digest: huge, size: 1e9, sequence: 10, isKept: true })
  const { peerId } = bad.peering.mesh.host
  await until(async () => {
    await one.served()
    const lines = one.log.filter((line) => line.includes('not used') && line.includes(peerId))
    return [digest, huge].every((each) => lines.some((line) => line.includes(each)))
  }, 'two lines in the log')
  t.deepEqual(await one.served(), layers('a'))
  // What comes next is above all that was said, whoever said it.
  await one.build(names('b'))
  t.is(one.news.latest(scope), 11)
})

test('what was reset comes back from nobody', async (t) => {
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one')
  const two = await nodes.add('two')
  await one.build(names('abc'))
  await serves(two, 'abc')
  t.deepEqual(two.records.scopes(), [scope])
  await one.records.reset(scope)
  await two.records.reset(scope)
  t.deepEqual(two.records.scopes(), [])
  const again = await nodes.add('again')
  for (const node of [one, two, again]) t.deepEqual(await node.served(), [])
  await one.build(names('abc'))
  for (const node of [one, two, again]) await serves(node, 'abc')
})

test('with an object store a fragment is kept once it is there, and found by who never met its maker', async (t) => {
  const s3 = await startS3()
  t.teardown(() => s3[Symbol.asyncDispose]())
  const nodes = await createMergeNodes(t)
  const one = await nodes.add('one', { s3 })
  const { fragment } = await one.build(names('abc'))
  t.deepEqual(await one.records.settled(scope, fragment, { signal }), { type: 'kept' })
  t.true(one.news.of(scope)[0]?.statement.isKept)
  await one.stop()

  const late = await (await createMergeNodes(t)).add('of another coordinator', { s3 })
  t.deepEqual(await late.served(), [], 'made by no member that it knows of')
  t.true(late.log.some((line) => line.includes('made by no member')))

  const two = await nodes.add('two', { s3 })
  t.deepEqual(await two.served(), layers('abc'))
  const blob = { digest: digestOf(layerBytes('b')), size: layerBytes('b').length }
  t.is(two.sources.whereabouts(scope, blob), 'far')
  t.like(await two.sources.bring(scope, blob, { signal }), { type: 'brought' })
  // Nothing is to be had any more: what it knows is not what it can deliver.
  await s3.process.stop()
  await two.store.remove(scope, blob.digest)
  t.like(await two.sources.bring(scope, blob, { signal }), { type: 'missed' })
  await until(async () => (await two.served()).length < 3, 'a record without what is gone')
  const next = await two.build(names('xyz'))
  const settled = await two.records.settled(scope, next.fragment, {
    signal: AbortSignal.timeout(2_000),
  })
  t.is(settled.type, 'kept here only')
})
