import path from 'node:path'
import test from 'ava'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { silentLogger } from '../../../core/log.ts'
import { openManifestTable } from './index.ts'
import {
  type Fixture,
  freshBytes,
  openFixture,
  otherScope,
  repository,
  scope,
} from './temporary-registry.fixture.ts'

const imageType = 'application/vnd.oci.image.manifest.v1+json'
const indexType = 'application/vnd.oci.image.index.v1+json'

let shared: Fixture
test.before(async () => {
  shared = await openFixture()
})
test.after.always(() => shared[Symbol.asyncDispose]())

let last = 0
/** A manifest unlike every other one. */
function manifestWith(more: object = {}): { body: string; digest: Digest } {
  last += 1
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: imageType,
    config: { mediaType: 'application/vnd.example.config', digest: 'sha256:00', size: 2 },
    layers: [],
    annotations: { number: String(last) },
    ...more,
  })
  return { body, digest: digestOf(body) }
}

const put = (target: string, body: string, type = imageType) =>
  shared.call('PUT', target, { body, headers: { 'content-type': type } })
const jsonOf = (answer: { body: Buffer }) => JSON.parse(answer.body.toString())

test('tags outlive their grant, belong to their repository, and are listed in order by pages', async (t) => {
  const tags = ['a', 'a-b', 'a.b', 'A', '10', '9', 'z_', 'latest']
  {
    using writing = shared.keeper()
    for (const tag of tags) {
      const { status } = await put(
        `${repository(writing, 'one/app')}/manifests/${tag}`,
        manifestWith().body,
      )
      t.is(status, 201)
    }
    t.is(writing.pushed.size, 0)
  }
  using grant = shared.keeper()
  const target = `${repository(grant, 'one/app')}/tags/list`
  const listed = await shared.call('GET', target)
  t.is(listed.status, 200)
  t.deepEqual(jsonOf(listed), { name: `${grant.capability}/one/app`, tags: [...tags].sort() })
  t.is(listed.headers.link, undefined)
  t.deepEqual(jsonOf(await shared.call('GET', `${repository(grant, 'two')}/tags/list`)).tags, [])

  const found: string[] = []
  let next: string | undefined = `${target}?n=3`
  while (next !== undefined) {
    const page = await shared.call('GET', next)
    found.push(...jsonOf(page).tags)
    next = /^<(.*)>; rel="next"$/.exec(String(page.headers.link ?? ''))?.[1]
  }
  t.deepEqual(found, [...tags].sort())
  t.deepEqual(jsonOf(await shared.call('GET', `${target}?last=a`)).tags, [
    'a-b',
    'a.b',
    'latest',
    'z_',
  ])
  const none = await shared.call('GET', `${target}?n=0`)
  t.deepEqual([jsonOf(none).tags, none.headers.link], [[], undefined])
  t.is((await shared.call('GET', `${target}?n=-1`)).status, 400)
  t.is((await shared.call('GET', `${target}?last=${'x'.repeat(1500)}`)).status, 200)

  using foreign = shared.keeper(otherScope)
  t.deepEqual(
    jsonOf(await shared.call('GET', `${repository(foreign, 'one/app')}/tags/list`)).tags,
    [],
  )
})

test('a tag moves, and a manifest stays reachable by its digest until it is deleted with its tags', async (t) => {
  using grant = shared.keeper()
  const base = `${repository(grant, 'moving')}/manifests`
  const [old, young] = [manifestWith(), manifestWith()]
  await put(`${base}/latest`, old.body)
  await put(`${base}/latest`, young.body)
  await put(`${base}/${young.digest}?tag=1.0&tag=1`, young.body)
  t.is((await shared.call('HEAD', `${base}/latest`)).headers['docker-content-digest'], young.digest)
  t.is((await shared.call('GET', `${base}/${old.digest}`)).body.toString(), old.body)
  // By digest it is this repository's alone.
  t.is(
    (await shared.call('GET', `${repository(grant, 'other')}/manifests/${old.digest}`)).status,
    404,
  )

  t.is((await shared.call('DELETE', `${base}/1`)).status, 202)
  t.is((await shared.call('DELETE', `${base}/1`)).code, 'MANIFEST_UNKNOWN')
  t.is((await shared.call('GET', `${base}/1.0`)).status, 200)
  t.is((await shared.call('DELETE', `${base}/${young.digest}`)).status, 202)
  for (const reference of ['latest', '1.0', young.digest]) {
    t.is((await shared.call('GET', `${base}/${reference}`)).status, 404)
  }
  t.is((await shared.call('DELETE', `${base}/${young.digest}`)).status, 404)
  t.is((await shared.call('GET', `${base}/${old.digest}`)).status, 200)
})

test('referrers are listed by their subject, filtered by type, and go when they are deleted', async (t) => {
  using grant = shared.keeper()
  const base = repository(grant, 'about')
  const subject = freshBytes(1).digest
  const about = { subject: { mediaType: imageType, digest: subject, size: 1 } }
  const signature = manifestWith({ ...about, artifactType: 'application/x-signature' })
  const sbom = manifestWith({ ...about, annotations: { format: 'json' } })
  const list = manifestWith({
    ...about,
    mediaType: indexType,
    config: undefined,
    layers: undefined,
    manifests: [],
  })
  for (const each of [signature, sbom]) {
    const answer = await put(`${base}/manifests/${each.digest}`, each.body)
    t.is(answer.headers['oci-subject'], subject)
  }
  await put(`${base}/manifests/${list.digest}`, list.body, indexType)

  const all = await shared.call('GET', `${base}/referrers/${subject}`)
  t.is(all.headers['content-type'], indexType)
  t.is(all.headers['oci-filters-applied'], undefined)
  const { manifests } = jsonOf(all)
  t.deepEqual(
    manifests.map((each: { digest: string }) => each.digest),
    [signature, sbom, list].map((each) => each.digest).sort(),
  )
  t.deepEqual(
    manifests.find((each: { digest: string }) => each.digest === sbom.digest),
    {
      mediaType: imageType,
      digest: sbom.digest,
      size: sbom.body.length,
      artifactType: 'application/vnd.example.config',
      annotations: { format: 'json' },
    },
  )
  t.false(
    'artifactType' in manifests.find((each: { digest: string }) => each.digest === list.digest),
  )

  const filtered = await shared.call(
    'GET',
    `${base}/referrers/${subject}?artifactType=application/x-signature`,
  )
  t.is(filtered.headers['oci-filters-applied'], 'artifactType')
  t.deepEqual(
    jsonOf(filtered).manifests.map((each: { digest: string }) => each.digest),
    [signature.digest],
  )
  await shared.call('DELETE', `${base}/manifests/${signature.digest}`)
  t.is(jsonOf(await shared.call('GET', `${base}/referrers/${subject}`)).manifests.length, 2)
  const none = await shared.call('GET', `${base}/referrers/${freshBytes(1).digest}`)
  t.deepEqual([none.status, jsonOf(none).manifests], [200, []])
  t.is((await shared.call('GET', `${base}/referrers/nothing`)).code, 'DIGEST_INVALID')
})

test('long lists of referrers come in several answers', async (t) => {
  using grant = shared.keeper()
  const base = repository(grant, 'many')
  const subject = freshBytes(1).digest
  const digests: string[] = []
  for (let count = 0; count < 5; count += 1) {
    const each = manifestWith({
      subject: { digest: subject, size: 1 },
      annotations: { note: `${count}${'x'.repeat(1_000_000)}` },
    })
    digests.push(each.digest)
    t.is((await put(`${base}/manifests/${each.digest}`, each.body)).status, 201)
  }
  const found: string[] = []
  let pages = 0
  let next: string | undefined = `${base}/referrers/${subject}`
  while (next !== undefined) {
    const page = await shared.call('GET', next)
    pages += 1
    t.true(page.body.length < 4_000_000)
    found.push(...jsonOf(page).manifests.map((each: { digest: string }) => each.digest))
    next = /^<(.*)>; rel="next"$/.exec(String(page.headers.link ?? ''))?.[1]
  }
  t.deepEqual(found, digests.sort())
  t.true(pages > 1)
})

test('what the store has evicted is no longer listed, now or after a restart', async (t) => {
  await using fixture = await openFixture()
  using grant = fixture.keeper()
  const base = `${repository(grant, 'evicted')}/manifests`
  const manifests = [manifestWith(), manifestWith()]
  for (const [number, { body }] of manifests.entries()) {
    await fixture.call('PUT', `${base}/v${number}`, {
      body,
      headers: { 'content-type': imageType },
    })
  }
  const [first, second] = manifests.map(({ digest }) => digest)
  if (first === undefined || second === undefined) throw new Error('two were made')
  grant[Symbol.dispose]()
  await fixture.store.remove(scope, first)

  using again = fixture.keeper()
  const target = repository(again, 'evicted')
  t.is((await fixture.call('GET', `${target}/manifests/v0`)).code, 'MANIFEST_UNKNOWN')
  t.deepEqual(jsonOf(await fixture.call('GET', `${target}/tags/list`)).tags, ['v1'])

  // A table that opens over the same store keeps only what is there.
  const folder = path.join(fixture.folder, 'another')
  const deps = { store: fixture.store, log: silentLogger }
  const shelf = { scope, name: 'evicted' }
  const row = { mediaType: imageType, size: 1 }
  {
    await using table = await openManifestTable(deps, { folder })
    await table.put(shelf, { ...row, digest: second }, ['kept'])
    await table.put(shelf, { ...row, digest: first }, ['lost'])
  }
  await using table = await openManifestTable(deps, { folder })
  t.deepEqual(table.tags(shelf, { last: undefined, limit: 10 }), ['kept'])
  // Bytes that come back do not bring back a row that was dropped.
  t.is((await fixture.put(Buffer.from(manifests[0]?.body ?? ''))) as string, first)
  t.is(table.find(shelf, { tag: 'lost' }), undefined)
  t.is(table.find(shelf, { tag: 'kept' })?.digest, second)
})

test('a table keeps so many manifests and tags of a scope, and others are not touched', async (t) => {
  const { store } = shared
  const folder = path.join(shared.folder, 'bounded')
  await using table = await openManifestTable({ store, log: silentLogger }, { folder, rowsMax: 2 })
  const digests = await Promise.all([1, 2, 3].map(() => shared.put(freshBytes(10).bytes)))
  const [one, two, three] = digests.map((digest) => ({ digest, mediaType: imageType, size: 10 }))
  if (one === undefined || two === undefined || three === undefined) throw new Error('three')
  const shelf = { scope, name: 'app' }
  t.true(await table.put(shelf, one, ['a']))
  t.true(await table.put(shelf, two, ['a', 'b']))
  t.false(await table.put(shelf, two, ['c']))
  t.false(await table.put(shelf, three, []))
  t.true(await table.put({ ...shelf, scope: otherScope }, three, ['c']))
  t.true(await table.removeTag(shelf, 'a'))
  t.true(await table.put(shelf, two, ['c']))
  t.true(await table.removeManifest(shelf, one.digest))
  t.true(await table.put(shelf, three, []))
  t.deepEqual(table.tags(shelf, { last: undefined, limit: 10 }), ['b', 'c'])
})

test('only who keeps may delete, and only what its scope has', async (t) => {
  const digest = await shared.put(freshBytes(100).bytes)
  const other = await shared.put(freshBytes(100).bytes, otherScope)
  using building = shared.writer()
  const refused = await shared.call('DELETE', `${repository(building)}/blobs/${digest}`)
  t.is(refused.status, 405)
  t.is((await shared.call('DELETE', `${repository(building)}/manifests/latest`)).status, 405)
  using reading = shared.registry.grant({
    scope,
    right: 'read',
    tags: 'of the scope',
    lifetimeMs: 60_000,
  })
  t.is((await shared.call('DELETE', `${repository(reading)}/blobs/${digest}`)).status, 404)
  t.not(shared.store.stat(scope, digest), undefined)

  using keeping = shared.keeper()
  const blobs = `${repository(keeping)}/blobs`
  t.is((await shared.call('HEAD', `${blobs}/${digest}`)).status, 200)
  t.is((await shared.call('DELETE', `${blobs}/${digest}`)).status, 202)
  t.is((await shared.call('HEAD', `${blobs}/${digest}`)).status, 404)
  t.is((await shared.call('DELETE', `${blobs}/${digest}`)).code, 'BLOB_UNKNOWN')
  t.is((await shared.call('DELETE', `${blobs}/${other}`)).status, 404)
  t.not(shared.store.stat(otherScope, other), undefined)
})

test('content named by another algorithm is absent, and cannot be pushed', async (t) => {
  using grant = shared.keeper()
  const base = repository(grant)
  const name = `sha512:${'0'.repeat(128)}`
  t.is((await shared.call('GET', `${base}/blobs/${name}`)).code, 'BLOB_UNKNOWN')
  t.is((await shared.call('GET', `${base}/manifests/${name}`)).code, 'MANIFEST_UNKNOWN')
  const put = await shared.call('PUT', `${base}/manifests/${name}`, { body: manifestWith().body })
  t.deepEqual([put.status, put.code], [400, 'DIGEST_INVALID'])
  for (const query of [`digest=${name}`, `mount=${name}`, 'digest-algorithm=sha512']) {
    const posted = await shared.call('POST', `${base}/blobs/uploads/?${query}`)
    t.deepEqual([posted.status, posted.code], [400, 'DIGEST_INVALID'])
  }
})

test('a manifest that could be read as two kinds, or contradicts its type, is refused', async (t) => {
  using grant = shared.keeper()
  const target = `${repository(grant)}/manifests/two`
  const both = manifestWith({ manifests: [] })
  t.is((await put(target, both.body)).code, 'MANIFEST_INVALID')
  t.is((await put(target, manifestWith().body, indexType)).code, 'MANIFEST_INVALID')
  t.is((await put(target, manifestWith().body, `${imageType}; charset=utf-8`)).status, 201)
})
