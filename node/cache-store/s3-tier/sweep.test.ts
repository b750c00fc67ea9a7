import { mkdtemp, rm, utimes } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import {
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import test from 'ava'
import { type Digest, digestHex, digestOf } from '../../../core/digest.ts'
import { toHearthError } from '../../../core/errors.ts'
import { type S3Server, startS3 } from '../../../test/harness/index.ts'
import { fork, never, scope } from '../temporary-store.fixture.ts'
import type { S3TierLimits, StoredFragment } from './index.ts'
import { clientOf, collectLog, makeFragment, ownPlace, startNode, until } from './tier.fixture.ts'

const dayMs = 86_400_000
const all = { known: new Set<Digest>(), signal: never }

let s3: S3Server
let objects: string
test.before(async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-sweep-'))
  s3 = await startS3({ folder })
  objects = path.join(folder, 'buckets', s3.bucket)
})
test.after.always(async () => {
  await s3[Symbol.asyncDispose]()
  await rm(path.dirname(path.dirname(objects)), { recursive: true, force: true })
})

const folderOf = (url: string) => path.join(objects, path.basename(url))

async function keysOf(url: string): Promise<string[]> {
  const prefix = `${path.basename(url)}/`
  const command = new ListObjectsV2Command({ Bucket: s3.bucket, Prefix: prefix })
  const { Contents = [] } = await clientOf(s3).send(command)
  return Contents.map(({ Key = '' }) => Key.slice(prefix.length)).sort()
}

/** As if they had been written so long ago. */
async function age(url: string, keys: readonly string[], days: number): Promise<void> {
  const at = new Date(Date.now() - days * dayMs)
  for (const key of keys) await utimes(path.join(folderOf(url), key), at, at)
}

const blobKeys = ({ blobs }: StoredFragment) =>
  blobs.map(({ digest }) => `blobs/sha256/${digestHex(digest)}`)
const fragmentKey = ({ bytes }: StoredFragment) =>
  `fragments/${scope.project}/${scope.line}/${digestHex(digestOf(bytes))}`

test('what nobody has touched for a month goes, then its blobs; what others need stays', async (t) => {
  const url = ownPlace(s3)
  const { store, tier } = await startNode(t, s3, url)
  const old = await makeFragment(store, [1000, 2000])
  const young = await makeFragment(store, [3000])
  const shared = { ...young, blobs: [...young.blobs, ...old.blobs.slice(0, 1)] }
  await tier.keep(scope, old)
  await tier.keep(scope, shared)
  await age(url, await keysOf(url), 29)
  t.deepEqual(await tier.sweep({ signal: never }), { objects: 0, bytesFreed: 0 })

  await age(url, [fragmentKey(old)], 31)
  const { objects: gone, bytesFreed } = await tier.sweep({ signal: never })
  t.is(gone, 2)
  t.true(bytesFreed > 2000 && bytesFreed < 3000)
  t.deepEqual(await keysOf(url), [...blobKeys(shared), fragmentKey(shared)].sort())
  t.false(tier.has(old.blobs[1]?.digest ?? digestOf('')))
  t.true(tier.has(old.blobs[0]?.digest ?? digestOf('')))
})

test('keeping a fragment again touches it', async (t) => {
  const url = ownPlace(s3)
  const { store, tier } = await startNode(t, s3, url)
  const fragment = await makeFragment(store, [1000])
  await tier.keep(scope, fragment)
  await age(url, await keysOf(url), 29)
  await tier.keep(scope, fragment)
  await age(url, blobKeys(fragment), 60)
  t.deepEqual(await tier.sweep({ signal: never }), { objects: 0, bytesFreed: 0 })
  t.is((await tier.fragments(scope, all)).length, 1)
})

test('a blob without a fragment stays for a day; what is not ours stays for ever', async (t) => {
  const url = ownPlace(s3)
  const { store, tier } = await startNode(t, s3, url)
  const fragment = await makeFragment(store, [1000])
  await tier.keep(scope, fragment)
  await tier.reset(scope.project, { signal: never })
  t.deepEqual(await keysOf(url), blobKeys(fragment))
  const foreign = ['blobs/sha256/readme', 'fragments/x', 'notes.txt']
  for (const key of foreign) {
    const at = { Bucket: s3.bucket, Key: `${path.basename(url)}/${key}`, Body: 'x' }
    await clientOf(s3).send(new PutObjectCommand(at))
  }
  t.is((await tier.sweep({ signal: never })).objects, 0)
  await age(url, await keysOf(url), 2)
  t.is((await tier.sweep({ signal: never })).objects, 1)
  t.deepEqual(await keysOf(url), foreign.sort())
})

test('an upload in parts that nobody finishes is given up after a while', async (t) => {
  const url = ownPlace(s3)
  const Bucket = s3.bucket
  const Key = `${path.basename(url)}/blobs/sha256/${digestHex(digestOf('never finished'))}`
  await clientOf(s3).send(new CreateMultipartUploadCommand({ Bucket, Key }))
  const unfinished = async () => {
    const command = new ListMultipartUploadsCommand({ Bucket, Prefix: path.basename(url) })
    return (await clientOf(s3).send(command)).Uploads ?? []
  }
  const careful = await startNode(t, s3, url)
  await careful.tier.sweep({ signal: never })
  t.is((await unfinished()).length, 1)
  const { tier } = await startNode(t, s3, url, { limits: { graceMs: 0 } })
  await tier.sweep({ signal: never })
  t.is((await unfinished()).length, 0)
})

test('while a fragment cannot be read, no blob is swept', async (t) => {
  const url = ownPlace(s3)
  const { log, said } = collectLog()
  const { store, tier } = await startNode(t, s3, url, { log })
  const fragment = await makeFragment(store, [1000])
  await tier.keep(scope, fragment)
  await tier.reset(scope.project, { signal: never })
  await age(url, await keysOf(url), 2)
  const newer = `${path.basename(url)}/fragments/app/main/${digestHex(digestOf('newer'))}`
  const Body = '{"version":99,"a":"field that nobody knows yet"}\n…'
  await clientOf(s3).send(new PutObjectCommand({ Bucket: s3.bucket, Key: newer, Body }))
  t.is((await tier.sweep({ signal: never })).objects, 0)
  t.regex(said(), /newest version/)
  t.deepEqual(await tier.fragments(scope, all), [])
})

test('one of several nodes sweeps by itself', async (t) => {
  const url = ownPlace(s3)
  const limits = { sweepEveryMs: 1000, graceMs: 0 }
  const nodes = [
    await startNode(t, s3, url, { limits }),
    await startNode(t, s3, url, { limits }),
  ] as const
  const fragment = await makeFragment(nodes[0].store, [1000])
  await nodes[0].tier.keep(scope, fragment)
  await nodes[0].tier.reset(scope.project, { signal: never })
  await until(async () => (await keysOf(url)).every((key) => key === 'last-sweep'))
  t.pass()
})

/** This server sometimes fails to write an object that is being removed at the same moment, and says so. */
async function untilDone(work: () => Promise<unknown>): Promise<void> {
  await until(async () => {
    try {
      await work()
      return true
    } catch (error) {
      if (toHearthError(error).code !== 'unavailable') throw error
      return false
    }
  })
}

test('nodes that keep and sweep all the time lose nothing', async (t) => {
  const url = ownPlace(s3)
  const limits: Partial<S3TierLimits> = { graceMs: 0 }
  const nodes = [
    await startNode(t, s3, url, { limits }),
    await startNode(t, s3, url, { limits }),
  ] as const
  const [first, second] = nodes
  const blobs = (await makeFragment(first.store, Array(6).fill(500))).blobs
  for (const { digest } of blobs) {
    const bytes = await first.store.open(scope, digest, { signal: never })
    await using writer = await second.store.createWriter(fork)
    for await (const chunk of bytes ?? []) await writer.write(chunk)
    await writer.commit(digest)
  }
  for (let round = 0; round < 12; round += 1) {
    // One half is kept again, the other half is not needed any more.
    const named = blobs.filter((_, index) => (index + round) % 2 === 0)
    const bytes = Buffer.from(`round ${round}`)
    const fragment = { statement: Buffer.from('signed'), bytes, blobs: named }
    await Promise.all([
      untilDone(() => first.tier.keep(scope, fragment)),
      untilDone(() => second.tier.keep(fork, fragment)),
      ...nodes.map(({ tier }) => untilDone(() => tier.sweep({ signal: never }))),
    ])
    const there = await keysOf(url)
    for (const key of blobKeys(fragment)) t.true(there.includes(key), `round ${round}: ${key}`)
    await untilDone(() => first.tier.reset(scope.project, { signal: never }))
  }
})
