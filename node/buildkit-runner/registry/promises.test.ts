import { rm } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { blobFile } from '../../cache-store/temporary-store.fixture.ts'
import type { GrantDocument, RegistryOptions } from './index.ts'
import { freshBytes, openFixture, otherScope, repository } from './temporary-registry.fixture.ts'

/** What other nodes hold, as the sources see it: brought when `open` says so, and counted. */
class Elsewhere {
  readonly blobs = new Map<Digest, Buffer>()
  readonly asked: Digest[] = []
  /** What `bring` waits for. */
  gate: Promise<void> = Promise.resolve()
  /** Called when somebody waits for a blob. */
  onAsked = () => {}

  add(bytes: Buffer): BlobInfo {
    const digest = digestOf(bytes)
    this.blobs.set(digest, bytes)
    return { digest, size: bytes.length }
  }

  sources(store: CacheStore): Pick<BlobSources, 'whereabouts' | 'bring'> {
    const fetches = new Map<Digest, Promise<void>>()
    const fetch = async (scope: Scope, digest: Digest) => {
      this.asked.push(digest)
      await this.gate
      const bytes = this.blobs.get(digest)
      if (bytes === undefined) return
      await using writer = await store.createWriter(scope)
      await writer.write(bytes)
      await writer.commit(digest)
    }
    return {
      whereabouts: (_scope, { digest }) => (this.blobs.has(digest) ? 'near' : undefined),
      bring: async (scope, { digest }, { signal }) => {
        this.onAsked()
        const running = fetches.get(digest) ?? fetch(scope, digest)
        fetches.set(digest, running)
        const cancelled = new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(new HearthError('cancelled', 'no more')))
        })
        await Promise.race([running, cancelled])
        const size = store.stat(scope, digest)?.size
        if (size === undefined) return { type: 'missed', reason: 'nobody has it' }
        return { type: 'brought', bytesBySource: new Map([['node-b', size]]) }
      },
    }
  }
}

async function open(t: ExecutionContext, options: RegistryOptions = {}) {
  const elsewhere = new Elsewhere()
  const fixture = await openFixture({
    ...options,
    sources: (store) => elsewhere.sources(store),
  })
  t.teardown(() => fixture[Symbol.asyncDispose]())
  return { fixture, elsewhere }
}

/** What a composed record is served as: a manifest that lists these layers. */
function recordOf(...layers: BlobInfo[]): GrantDocument[] {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, layers }))
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  return [{ digest: digestOf(bytes), mediaType, bytes, tag: 'record' }]
}

test('a promised blob that is elsewhere is brought when it is read, and counted by where', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const { bytes } = freshBytes(100_000)
  const blob = elsewhere.add(bytes)
  using grant = fixture.reader(recordOf(blob))
  const target = `${repository(grant)}/blobs/${blob.digest}`
  const head = await fixture.call('HEAD', target)
  t.is(head.status, 200)
  t.is(head.headers['content-length'], '100000')
  t.deepEqual(elsewhere.asked, [])
  t.deepEqual((await fixture.call('GET', target)).body, bytes)
  t.deepEqual([...grant.bytesBrought], [['node-b', 100_000]])
  t.is(grant.bytesRead, 100_000)
  t.is(grant.undeliverable.size, 0)
})

test('a range of it brings all of it, once however many ask', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const { bytes } = freshBytes(50_000)
  const blob = elsewhere.add(bytes)
  using grant = fixture.reader(recordOf(blob))
  const target = `${repository(grant)}/blobs/${blob.digest}`
  const ranges = [
    [0, 9],
    [40_000, 49_999],
    [100, 30_000],
  ] as const
  const answers = await Promise.all(
    ranges.map(([start, end]) =>
      fixture.call('GET', target, { headers: { range: `bytes=${start}-${end}` } }),
    ),
  )
  for (const [index, [start, end]] of ranges.entries()) {
    t.is(answers[index]?.status, 206)
    t.deepEqual(answers[index]?.body, bytes.subarray(start, end + 1))
  }
  t.deepEqual(elsewhere.asked, [blob.digest])
  t.deepEqual([...grant.bytesBrought], [['node-b', 50_000]])
})

test('what nobody gives after all is undeliverable', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const blob = elsewhere.add(freshBytes(1_000).bytes)
  using grant = fixture.reader(recordOf(blob))
  elsewhere.gate = Promise.resolve().then(() => void elsewhere.blobs.clear())
  const answer = await fixture.call('GET', `${repository(grant)}/blobs/${blob.digest}`)
  t.is(answer.status, 404)
  t.deepEqual([...grant.undeliverable], [blob.digest])
})

test('what comes too slowly is undeliverable before the reader’s connection is cut', async (t) => {
  const { fixture, elsewhere } = await open(t, { idleMs: 2_000 })
  const blob = elsewhere.add(freshBytes(1_000).bytes)
  using grant = fixture.reader(recordOf(blob))
  elsewhere.gate = new Promise(() => {})
  const answer = await fixture.call('GET', `${repository(grant)}/blobs/${blob.digest}`)
  t.is(answer.status, 404)
  t.deepEqual([...grant.undeliverable], [blob.digest])
})

test('a blob of which the file is lost is brought again', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const { bytes, digest } = freshBytes(1_000)
  await fixture.put(bytes)
  using grant = fixture.reader(recordOf(elsewhere.add(bytes)))
  await rm(blobFile(path.join(fixture.folder, 'store'), digest))
  const answer = await fixture.call('GET', `${repository(grant)}/blobs/${digest}`)
  t.deepEqual(answer.body, bytes)
})

test('what a grant does not promise is not brought, wherever it is', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const blob = elsewhere.add(freshBytes(1_000).bytes)
  const promised = () => blob
  for (const grant of [fixture.reader(), fixture.writer(), fixture.keeper()]) {
    const target = `${repository(grant)}/blobs/${blob.digest}`
    t.is((await fixture.call('HEAD', target)).status, 404, scopeId(grant.scope))
    t.is((await fixture.call('GET', target)).status, 404)
  }
  using other = fixture.writer(otherScope, promised)
  const mine = fixture.writer()
  const from = `${other.capability}/cache`
  const target = `${repository(mine)}/blobs/uploads/?mount=${blob.digest}&from=${from}`
  t.is((await fixture.call('POST', target)).status, 202)
  t.deepEqual(elsewhere.asked, [])
})

test('a writer need not push what the record promises, and nothing moves for it', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const blob = elsewhere.add(freshBytes(1_000).bytes)
  const unknown = freshBytes(10).digest
  using grant = fixture.writer(undefined, (digest) => (digest === blob.digest ? blob : undefined))
  const blobs = `${repository(grant)}/blobs`
  const head = await fixture.call('HEAD', `${blobs}/${blob.digest}`)
  t.is(head.status, 200)
  t.is(head.headers['content-length'], '1000')
  const from = `${grant.capability}/other`
  const mount = await fixture.call('POST', `${blobs}/uploads/?mount=${blob.digest}&from=${from}`)
  t.is(mount.status, 201)
  t.is((await fixture.call('HEAD', `${blobs}/${unknown}`)).status, 404)
  t.deepEqual(elsewhere.asked, [])
  elsewhere.blobs.clear()
  t.is((await fixture.call('HEAD', `${blobs}/${blob.digest}`)).status, 404)
})

test('what was brought stays until the grant ends', async (t) => {
  const { fixture, elsewhere } = await open(t)
  const blob = elsewhere.add(freshBytes(1_000).bytes)
  const grant = fixture.reader(recordOf(blob))
  await fixture.call('GET', `${repository(grant)}/blobs/${blob.digest}`)
  fixture.store.setPolicies(new Map([[grant.scope.project, { bytesMax: 0, daysMax: 0 }]]))
  await fixture.store.evict()
  t.is(fixture.store.size(blob.digest), 1_000)
  grant[Symbol.dispose]()
  await fixture.store.evict()
  t.is(fixture.store.size(blob.digest), undefined)
})
