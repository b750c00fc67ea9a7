import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import type { Digest } from '../../../core/digest.ts'
import { digestHex } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import type { Grant } from './index.ts'
import {
  type Fixture,
  freshBytes,
  openFixture,
  otherScope,
  repository,
  scope,
} from './temporary-registry.fixture.ts'

// One store for most: each test has bytes and grants of its own.
let shared: Fixture
/** Where its BuildKit would keep blobs, and which of them it was asked for. */
let content: string
const asked: Digest[] = []
test.before(async () => {
  shared = await openFixture({
    contentFile: (_scope, digest) => {
      asked.push(digest)
      return path.join(content, digestHex(digest))
    },
  })
  content = path.join(shared.folder, 'content')
  await mkdir(content)
})
test.after.always(() => shared[Symbol.asyncDispose]())

const uploads = (grant: Grant) => `${repository(grant)}/blobs/uploads/`

test('a blob that is here already is not uploaded again', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(100)
  await fixture.put(bytes)
  using grant = fixture.writer()
  t.is((await fixture.call('HEAD', `${repository(grant)}/blobs/${digest}`)).status, 200)
  const mounted = await fixture.call('POST', `${uploads(grant)}?mount=${digest}`)
  t.is(mounted.status, 201)
  t.is(mounted.headers['docker-content-digest'], digest)
  t.is(grant.bytesUploaded + grant.bytesLinked, 0)
})

test('a blob is mounted from a repository of the same scope, and from no other', async (t) => {
  const fixture = shared
  const own = freshBytes(100)
  const foreign = freshBytes(100)
  await fixture.put(own.bytes)
  await fixture.put(own.bytes, otherScope)
  await fixture.put(foreign.bytes, otherScope)
  using target = fixture.writer()
  using source = fixture.reader()
  using stranger = fixture.writer(otherScope)
  const mount = (digest: Digest, capability: string) =>
    fixture.call('POST', `${uploads(target)}?mount=${digest}&from=${capability}/cache`)
  t.is((await mount(own.digest, source.capability)).status, 201)
  t.is((await mount(own.digest, stranger.capability)).status, 202)
  t.is((await mount(foreign.digest, stranger.capability)).status, 202)
  t.is((await mount(foreign.digest, source.capability)).status, 202)
  t.is((await mount(own.digest, 'unknown')).status, 202)
  t.is((await mount(own.digest, '')).status, 202)
  t.is(fixture.store.stat(scope, foreign.digest), undefined)
})

test('what a writer was told to be here stays until its grant ends', async (t) => {
  await using fixture = await openFixture()
  const { bytes, digest } = freshBytes(100)
  await fixture.put(bytes)
  const grant = fixture.writer()
  const target = `${repository(grant)}/blobs/${digest}`
  t.is((await fixture.call('HEAD', target)).status, 200)
  fixture.store.setPolicies(new Map([[scope.project, { bytesMax: 0, daysMax: 0 }]]))
  await fixture.store.evict()
  t.is((await fixture.call('GET', target)).status, 200)
  grant[Symbol.dispose]()
  await fixture.store.evict()
  t.is(fixture.store.stat(scope, digest), undefined)
})

test('a blob that BuildKit has on this disk is linked, and need not be pushed', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(5 * mib)
  await writeFile(path.join(content, digestHex(digest)), bytes)
  using grant = fixture.writer()
  const target = `${repository(grant)}/blobs/${digest}`
  // BuildKit asks once per chain that the layer is part of, all at once.
  const answers = await Promise.all([1, 2, 3, 4].map(() => fixture.call('HEAD', target)))
  t.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200],
  )
  t.deepEqual(
    asked.filter((each) => each === digest),
    [digest],
  )
  t.is(grant.bytesLinked, bytes.length)
  t.is(grant.bytesUploaded, 0)
  t.deepEqual((await fixture.call('GET', target)).body, bytes)
})

test('blobs that are linked side by side are all counted', async (t) => {
  const fixture = shared
  const blobs = [1000, 2000, 3000].map(freshBytes)
  for (const { bytes, digest } of blobs) {
    await writeFile(path.join(content, digestHex(digest)), bytes)
  }
  using grant = fixture.writer()
  const target = (digest: Digest) => `${repository(grant)}/blobs/${digest}`
  await Promise.all(blobs.map(({ digest }) => fixture.call('HEAD', target(digest))))
  t.is(grant.bytesLinked, 6000)
})

test('a blob that BuildKit has is linked when a push begins without asking', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(1000)
  await writeFile(path.join(content, digestHex(digest)), bytes)
  using grant = fixture.writer()
  const pushed = await fixture.call('POST', `${uploads(grant)}?digest=${digest}`, { body: bytes })
  t.is(pushed.status, 201)
  t.is(grant.bytesLinked, bytes.length)
  t.is(grant.bytesUploaded, 0)
})

test('a file of BuildKit with other content is not believed, and the blob is pushed', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(1000)
  await writeFile(path.join(content, digestHex(digest)), 'something else')
  using grant = fixture.writer()
  t.is((await fixture.call('HEAD', `${repository(grant)}/blobs/${digest}`)).status, 404)
  const pushed = await fixture.call('POST', `${uploads(grant)}?digest=${digest}`, { body: bytes })
  t.is(pushed.status, 201)
  t.is(grant.bytesUploaded, bytes.length)
})

test('a reader takes nothing over', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(1000)
  await writeFile(path.join(content, digestHex(digest)), bytes)
  using grant = fixture.reader()
  t.is((await fixture.call('HEAD', `${repository(grant)}/blobs/${digest}`)).status, 404)
  t.false(asked.includes(digest))
})
