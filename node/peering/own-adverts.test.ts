/** What a node says of itself against what its store holds, on a real advert log and index. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import {
  type Adverts,
  compareKeys,
  createAdverts,
  type Entry,
  indexKey,
  keyOfDigest,
  openAdvertLog,
  openDigestIndex,
} from '../../mesh/index.ts'
import type { BlobInfo, BlobWatcher } from '../cache-store/index.ts'
import { createOwnAdverts } from './own-adverts.ts'

/** Blobs in memory, in the order of their digests, told of as the cache store does. */
function createShelf(blobs: readonly BlobInfo[] = []) {
  const held = new Map<Digest, BlobInfo>(blobs.map((blob) => [blob.digest, blob]))
  let watcher: BlobWatcher | undefined
  return {
    held,
    gain(blob: BlobInfo) {
      held.set(blob.digest, blob)
      watcher?.onGained(blob)
    },
    async lose({ digest }: BlobInfo) {
      held.delete(digest)
      await watcher?.beforeLost([digest])
    },
    store: {
      *blobs() {
        for (const digest of [...held.keys()].sort()) {
          const blob = held.get(digest)
          if (blob !== undefined) yield blob
        }
      },
      watch(next: BlobWatcher) {
        watcher = next
        return {
          [Symbol.dispose]() {
            watcher = undefined
          },
        }
      },
    },
  }
}

function newBlob(): BlobInfo {
  const bytes = randomBytes(20)
  return { digest: digestOf(bytes), size: 1 + (bytes[0] ?? 0) }
}

async function openAdverts(t: ExecutionContext) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-own-'))
  const { privateKey } = generateKeyPairSync('ed25519')
  const publisher = 'this-node'
  const log = await openAdvertLog({
    folder: path.join(folder, 'log'),
    publisher,
    signingKey: privateKey,
  })
  const index = await openDigestIndex({ folder: path.join(folder, 'index'), log: silentLogger })
  const adverts = await createAdverts({ log, index })
  t.teardown(async () => {
    await adverts[Symbol.asyncDispose]()
    await index[Symbol.asyncDispose]()
    await log[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  })
  const said = (): string[] => log.entriesAfter(undefined, 10_000).map(textOf)
  return { adverts, said }
}

const textOf = ({ key, size, heat }: Entry): string =>
  `${Buffer.from(key).toString('hex')} ${size} ${heat}`

function wanted(blobs: Iterable<BlobInfo>, further: readonly Entry[] = []): string[] {
  const entries = Array.from(
    blobs,
    ({ digest, size }): Entry => ({ key: keyOfDigest(digest), size, heat: 'held' }),
  )
  return [...entries, ...further].sort((a, b) => compareKeys(a.key, b.key)).map(textOf)
}

/** Lets `meanwhile` happen after a comparison has read the first of the store's entries. */
function interrupted(adverts: Adverts, meanwhile: () => Promise<void>): Adverts {
  return {
    ...adverts,
    reconcile: (entries) =>
      adverts.reconcile(
        (async function* () {
          let isFirst = true
          for await (const entry of entries) {
            yield entry
            if (isFirst) await meanwhile()
            isFirst = false
          }
        })(),
      ),
  }
}

test('what the store held before it was watched, and gained and lost since, is said', async (t) => {
  const { adverts, said } = await openAdverts(t)
  const [before, gone] = [newBlob(), newBlob()]
  await adverts.publish([{ key: keyOfDigest(gone.digest), size: gone.size, heat: 'held' }])
  const shelf = createShelf([before])
  const step: Entry = { key: indexKey(randomBytes(16)), size: 0, heat: 'hot' }
  const further = { entries: () => [step] }
  await using own = createOwnAdverts({ store: shelf.store, adverts, further, log: silentLogger })
  await own.compared()
  t.deepEqual(said(), wanted([before], [step]))
  const later = newBlob()
  shelf.gain(later)
  await shelf.lose(before)
  await own.publish([])
  t.deepEqual(said(), wanted([later], [step]))
})

test('what comes and goes during a comparison is neither forgotten nor put back', async (t) => {
  const { adverts, said } = await openAdverts(t)
  const blobs = Array.from({ length: 20 }, newBlob)
  const shelf = createShelf(blobs.slice(0, 10))
  const sorted = [...shelf.store.blobs()]
  await adverts.publish(
    blobs.slice(0, 5).map(({ digest, size }) => ({ key: keyOfDigest(digest), size, heat: 'held' })),
  )
  const passing = newBlob()
  const step: Entry = { key: indexKey(randomBytes(16)), size: 7, heat: 'held' }
  const meanwhile = async (): Promise<void> => {
    for (const blob of blobs.slice(10)) shelf.gain(blob)
    for (const blob of [sorted[0], sorted.at(-1)]) if (blob !== undefined) await shelf.lose(blob)
    shelf.gain(passing)
    await shelf.lose(passing)
    if (sorted[0] !== undefined) shelf.gain(sorted[0])
    own.publish([step]).catch(() => {})
  }
  const own = createOwnAdverts({
    store: shelf.store,
    adverts: interrupted(adverts, meanwhile),
    log: silentLogger,
  })
  t.teardown(() => own[Symbol.asyncDispose]())
  await own.compared()
  t.deepEqual(said(), wanted(shelf.held.values(), [step]))
})

test('what could not be told is put right by another comparison, and holds nothing up', async (t) => {
  const { adverts, said } = await openAdverts(t)
  let isBroken = false
  const orFail = (work: () => Promise<void>): Promise<void> =>
    isBroken ? Promise.reject(new HearthError('exhausted', 'the disk is full')) : work()
  let comparisons = 0
  const compared = Promise.withResolvers<void>()
  const fragile: Adverts = {
    ...adverts,
    publish: (entries) => orFail(() => adverts.publish(entries)),
    withdraw: (keys) => orFail(() => adverts.withdraw(keys)),
    async reconcile(entries) {
      comparisons += 1
      const difference = await adverts.reconcile(entries)
      if (comparisons > 1 && !isBroken) compared.resolve()
      return difference
    },
  }
  const shelf = createShelf([newBlob(), newBlob()])
  const deps = { store: shelf.store, adverts: fragile, log: silentLogger }
  await using own = createOwnAdverts(deps, { retryMs: 10 })
  await own.compared()
  isBroken = true
  const [lost] = shelf.held.values()
  if (lost !== undefined) await shelf.lose(lost)
  shelf.gain(newBlob())
  isBroken = false
  await compared.promise
  t.deepEqual(said(), wanted(shelf.held.values()))
})
