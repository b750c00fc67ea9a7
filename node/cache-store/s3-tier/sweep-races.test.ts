/** Keeping and sweeping at the same time, in every order that a scheduler finds. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import test from 'ava'
import fc from 'fast-check'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { silentLogger } from '../../../core/log.ts'
import { never, scope } from '../temporary-store.fixture.ts'
import { type BucketInMemory, createBucketInMemory } from './bucket-in-memory.fixture.ts'
import { writeFragmentObject } from './fragment-object.ts'
import type { S3TierDeps, StoredFragment } from './index.ts'
import { keepFragment } from './keep-fragment.ts'
import { blobKey, fragmentKey } from './location.ts'
import { createPresence } from './presence.ts'
import type { Queued } from './queue.ts'
import { sweepBucket } from './sweep.ts'
import { openTables } from './tables.ts'
import { createUploads } from './uploads.ts'

const contents = ['base', 'system', 'dependencies', 'old', 'new'].map((text) => Buffer.from(text))
const blobs = contents.map((bytes) => ({ digest: digestOf(bytes), size: bytes.length }))
const bytesOf = new Map(blobs.map(({ digest }, index) => [digest, contents[index]]))

/** Everything is held here, always. */
const store: S3TierDeps['store'] = {
  pin: () => ({ held: new Map(), add: () => [], [Symbol.dispose]() {} }),
  open: async (_scope, digest) => Readable.from([bytesOf.get(digest) ?? Buffer.alloc(0)]),
}

/** A fragment of some of the blobs; names are those of the blobs' indexes. */
function fragmentOf(indexes: readonly number[]): { queued: Queued; object: Buffer } {
  const fragment: StoredFragment = {
    statement: Buffer.from('signed'),
    bytes: Buffer.from(`fragment of ${indexes.join(' ')}`),
    blobs: indexes.flatMap((index) => blobs[index] ?? []),
  }
  const digest: Digest = digestOf(fragment.bytes)
  const name = { scope, digest, kind: 'record' as const }
  const queued = { ...name, order: 1, key: fragmentKey(name), blobs: fragment.blobs }
  return { queued, object: writeFragmentObject(fragment) }
}

/** One node's half of the tier, on a bucket that it shares with others. */
async function openNode({ bucket, clock }: BucketInMemory, folder: string) {
  const tables = await openTables(folder, silentLogger)
  const presence = createPresence(tables)
  const uploads = createUploads(
    { store, bucket, presence },
    { uploadsMax: 3, bytesPerS: undefined },
  )
  const deps = { store, bucket, clock, presence, uploads, log: silentLogger, pollMs: 1 }
  return {
    keep: ({ queued, object }: ReturnType<typeof fragmentOf>) =>
      keepFragment(deps, queued, object, { touchAfterMs: 0, signal: never }),
    sweep: () =>
      sweepBucket(deps, { untouchedMs: Number.POSITIVE_INFINITY, graceMs: 0, signal: never }),
    [Symbol.asyncDispose]: () => tables[Symbol.asyncDispose](),
  }
}

test('whatever the order of requests, a sweep takes nothing from a fragment that is kept meanwhile', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-sweep-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  let runs = 0
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.subarray([0, 1, 2, 3, 4], { minLength: 1 }), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 2 }),
      async (scheduler, wanted, sweepers) => {
        runs += 1
        let isQuiet = true
        const shared = createBucketInMemory({
          turn: async (doing) => {
            if (!isQuiet) await scheduler.schedule(Promise.resolve(), doing)
          },
        })
        const at = path.join(folder, String(runs))
        await using keeper = await openNode(shared, path.join(at, 'keeper'))
        await using other = await openNode(shared, path.join(at, 'other'))
        await using sweeper = await openNode(shared, path.join(at, 'sweeper'))
        // What nobody needs any more, but a node still believes to be there.
        await keeper.keep(fragmentOf([0, 1, 2, 3]))
        await shared.bucket.remove(fragmentOf([0, 1, 2, 3]).queued.key, { signal: never })

        isQuiet = false
        const fragments = wanted.map(fragmentOf)
        const everything = Promise.all([
          ...fragments.map((fragment, index) => (index === 1 ? other : keeper).keep(fragment)),
          ...Array.from({ length: sweepers }, () => sweeper.sweep()),
        ])
        await scheduler.waitFor(everything)
        isQuiet = true
        await sweeper.sweep()

        const needed = new Set(
          fragments.flatMap(({ queued }) => [
            queued.key,
            ...queued.blobs.map(({ digest }) => blobKey(digest)),
          ]),
        )
        t.deepEqual(shared.keys(), [...needed].sort())
        await rm(at, { recursive: true, force: true })
      },
    ),
    { numRuns: 100 },
  )
})
