/** Nodes with an object store, for tests: each with a store and a tier of its own, on one bucket. */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { ExecutionContext } from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { createLogger, type Logger, silentLogger } from '../../../core/log.ts'
import { type S3Server, startS3 } from '../../../test/harness/index.ts'
import type { CacheStore } from '../index.ts'
import { put, scope, temporaryFolder, temporaryStore } from '../temporary-store.fixture.ts'
import {
  createS3Tier,
  type S3Tier,
  type S3TierLimits,
  type S3TierOptions,
  type StoredFragment,
} from './index.ts'

export interface TestNode {
  readonly store: CacheStore
  readonly tier: S3Tier
  readonly folder: string
}

export interface TestNodeOptions {
  folder?: string
  store?: CacheStore
  log?: Logger
  limits?: Partial<S3TierLimits>
  tier?: Partial<S3TierOptions>
}

/** Quick where a test would have to wait. */
export const quickLimits: Partial<S3TierLimits> = { restMs: 50, restMsMax: 200, sweepEveryMs: 0 }

/** One for all tests of a file, which keep apart by prefixes. */
export function sharedS3(test: {
  before(run: () => Promise<void>): void
  after: { always(run: () => Promise<void>): void }
}): () => S3Server {
  let server: S3Server | undefined
  test.before(async () => {
    server = await startS3()
  })
  test.after.always(async () => {
    await server?.[Symbol.asyncDispose]()
  })
  return () => {
    if (server === undefined) throw new Error('the S3 server has not started')
    return server
  }
}

let prefixes = 0

/** `s3://bucket/prefix` that no other test uses. */
export function ownPlace({ bucket }: S3Server): string {
  prefixes += 1
  return `s3://${bucket}/test-${process.pid}-${prefixes}`
}

export async function startNode(
  t: ExecutionContext,
  server: S3Server,
  url: string,
  options: TestNodeOptions = {},
): Promise<TestNode> {
  const { endpoint, region, accessKeyId, secretAccessKey } = server
  const folder = options.folder ?? (await temporaryFolder(t))
  const store = options.store ?? (await temporaryStore(t)).store
  const tier = await createS3Tier(
    { store, log: options.log ?? silentLogger },
    {
      url,
      endpoint,
      region,
      credentials: { accessKeyId, secretAccessKey },
      folder: path.join(folder, 's3'),
      ...options.tier,
      limits: { ...quickLimits, ...options.limits },
    },
  )
  t.teardown(() => tier[Symbol.asyncDispose]())
  return { store, tier, folder }
}

/** A logger, and what it was told. */
export function collectLog(): { log: Logger; said: () => string } {
  let text = ''
  const log = createLogger('debug', {
    write(line: string) {
      text += line
    },
  })
  return { log, said: () => text }
}

/** Looks again and again: on a busy machine things take their time. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 60_000
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error('it did not become so in a minute')
    await delay(20)
  }
}

let fragments = 0

/** Blobs of these sizes in the store, and a fragment that names them. */
export async function makeFragment(
  store: CacheStore,
  sizes: readonly number[],
): Promise<StoredFragment> {
  const blobs = []
  for (const size of sizes) {
    blobs.push({ digest: await put(store, scope, randomBytes(size)), size })
  }
  fragments += 1
  const names = blobs.map(({ digest }) => digest)
  const bytes = Buffer.from(JSON.stringify({ version: 1, fragment: fragments, names }))
  return { statement: Buffer.from(`signed ${digestOf(bytes)}`), bytes, blobs }
}

export function clientOf({ endpoint, region, accessKeyId, secretAccessKey }: S3Server): S3Client {
  const credentials = { accessKeyId, secretAccessKey }
  return new S3Client({ endpoint, region, credentials, forcePathStyle: true })
}

export async function putObject(server: S3Server, key: string, bytes: Uint8Array): Promise<void> {
  const command = new PutObjectCommand({ Bucket: server.bucket, Key: key, Body: bytes })
  await clientOf(server).send(command)
}

export async function removeObject(server: S3Server, key: string): Promise<void> {
  await clientOf(server).send(new DeleteObjectCommand({ Bucket: server.bucket, Key: key }))
}
