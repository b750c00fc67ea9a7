/** One contract for a bucket of a real server and for its twin in memory. */
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import test from 'ava'
import { mib } from '../../../core/limits.ts'
import { silentLogger } from '../../../core/log.ts'
import { never } from '../temporary-store.fixture.ts'
import { type Bucket, createBucket } from './bucket.ts'
import { createBucketInMemory } from './bucket-in-memory.fixture.ts'
import { createCircuit } from './circuit.ts'
import { createClient } from './client.ts'
import { parseBucketUrl } from './location.ts'
import { ownPlace, sharedS3 } from './tier.fixture.ts'

const s3 = sharedS3(test)

function realBucket(): Bucket {
  const { endpoint, region, accessKeyId, secretAccessKey } = s3()
  const client = createClient(
    { endpoint, region, credentials: { accessKeyId, secretAccessKey } },
    { connectMs: 3000, stallMs: 20_000 },
  )
  const rest = { restMs: 1000, restMsMax: 1000 }
  const reading = createCircuit({ log: silentLogger }, { what: 'reading', ...rest })
  const writing = createCircuit({ log: silentLogger }, { what: 'writing', ...rest })
  const location = parseBucketUrl(ownPlace(s3()))
  return createBucket({ client, reading, writing }, { ...location, partBytes: 5 * mib })
}

const buckets: [string, () => Bucket][] = [
  ['of a server', realBucket],
  ['in memory', () => createBucketInMemory().bucket],
]
const signal = never

for (const [which, open] of buckets) {
  test(`a bucket ${which} gives back what was put, and nothing else`, async (t) => {
    const bucket = open()
    const bytes = Buffer.from('some bytes')
    t.is(await bucket.head('a/x', { signal }), undefined)
    t.is(await bucket.get('a/x', { bytesMax: 100, signal }), undefined)
    t.is(await bucket.open('a/x', { signal }), undefined)
    const { etag } = await bucket.put('a/x', bytes, { signal })
    t.like(await bucket.head('a/x', { signal }), { size: bytes.length, etag })
    t.deepEqual(await bucket.get('a/x', { bytesMax: 100, signal }), { bytes, etag })
    t.like(await t.throwsAsync(bucket.get('a/x', { bytesMax: 3, signal })), { code: 'corrupt' })
    const source = await bucket.open('a/x', { signal })
    t.deepEqual(source && (await buffer(source)), bytes)
    await bucket.remove('a/x', { signal })
    await bucket.remove('a/x', { signal })
    t.is(await bucket.head('a/x', { signal }), undefined)
  })

  test(`a bucket ${which} lists what is below a folder, in order`, async (t) => {
    const bucket = open()
    for (const key of ['b/2', 'a/1', 'b/1/deep', 'c']) {
      await bucket.put(key, Buffer.from(key), { signal })
    }
    const pages = await Array.fromAsync(bucket.list('b/', { signal }))
    t.deepEqual(
      pages.flat().map(({ key, size }) => [key, size]),
      [
        ['b/1/deep', 8],
        ['b/2', 3],
      ],
    )
    t.deepEqual((await Array.fromAsync(bucket.list('none/', { signal }))).flat(), [])
  })

  test(`a bucket ${which} takes uploads of any size, visible when they are whole`, async (t) => {
    const bucket = open()
    for (const size of [0, 1, 11 * mib]) {
      const bytes = Buffer.alloc(size, size)
      await bucket.upload('up', Readable.from([bytes]), { signal })
      t.is((await bucket.head('up', { signal }))?.size, size)
    }
    const broken = Readable.from(
      (async function* () {
        yield Buffer.alloc(6 * mib)
        throw new Error('the file cannot be read')
      })(),
    )
    await t.throwsAsync(bucket.upload('half', broken, { signal }))
    t.is(await bucket.head('half', { signal }), undefined)
  })
}
