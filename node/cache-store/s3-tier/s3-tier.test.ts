import { buffer } from 'node:stream/consumers'
import test from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import { fork, never, scope } from '../temporary-store.fixture.ts'
import { makeFragment, ownPlace, sharedS3, startNode } from './tier.fixture.ts'

const s3 = sharedS3(test)
const all = { known: new Set<never>(), signal: never }

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
