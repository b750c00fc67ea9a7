import test from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import { type Fixture, freshBytes, openFixture, repository } from './temporary-registry.fixture.ts'

// One store for most: each test has bytes and grants of its own.
let shared: Fixture
test.before(async () => {
  shared = await openFixture()
})
test.after.always(() => shared[Symbol.asyncDispose]())

test('a manifest is kept by tag for its grant, and by digest for its scope', async (t) => {
  const fixture = shared
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const bytes = JSON.stringify({ schemaVersion: 2, config: {}, layers: [] })
  const digest = digestOf(bytes)
  using grant = fixture.writer()
  const target = `${repository(grant)}/manifests/record`
  t.is((await fixture.call('HEAD', target)).status, 404)
  const put = await fixture.call('PUT', target, {
    body: bytes,
    headers: { 'content-type': mediaType },
  })
  t.is(put.status, 201)
  t.is(put.headers['docker-content-digest'], digest)
  t.deepEqual([...grant.pushed], [['record', { digest, mediaType }]])
  const got = await fixture.call('GET', target)
  t.is(got.headers['content-type'], mediaType)
  t.is(got.body.toString(), bytes)
  using other = fixture.reader()
  const byDigest = await fixture.call('GET', `${repository(other)}/manifests/${digest}`)
  t.is(byDigest.headers['content-type'], mediaType)
  t.is((await fixture.call('GET', `${repository(other)}/manifests/record`)).status, 404)
})

test('what is no manifest is refused', async (t) => {
  const fixture = shared
  using grant = fixture.writer()
  const put = (reference: string, body: string) =>
    fixture.call('PUT', `${repository(grant)}/manifests/${reference}`, { body })
  t.is((await put('record', 'no json')).code, 'MANIFEST_INVALID')
  t.is((await put('record', '[]')).code, 'MANIFEST_INVALID')
  t.is((await put('a%20b', '{}')).code, 'MANIFEST_UNKNOWN')
  t.is((await put(freshBytes(1).digest, '{}')).code, 'DIGEST_INVALID')
  const large = await put('record', JSON.stringify({ x: 'x'.repeat(4 * mib) }))
  t.is(large.status, 413)
  t.is(grant.pushed.size, 0)
})
