import path from 'node:path'
import test from 'ava'
import { type Digest, digestHex } from '../../../core/digest.ts'
import { startBuildkitd } from '../../../test/harness/index.ts'
import { base, build, run } from './buildctl.fixture.ts'
import { type Grant, type GrantDocument, promisesOf } from './index.ts'
import { type Fixture, openFixture, scope } from './temporary-registry.fixture.ts'

const dockerfile = `${base}${run('one')}COPY file /file\n${run('two')}`
const steps = 4

/** Where a buildkitd keeps blobs, below its root. */
function contentFile(root: string, digest: Digest): string {
  return path.join(root, 'runc-overlayfs/content/blobs/sha256', digestHex(digest))
}

const refOf = (fixture: Fixture, grant: Grant) =>
  `127.0.0.1:${fixture.registry.port}/${grant.capability}/cache:record`

async function readBlob(fixture: Fixture, digest: Digest): Promise<Buffer> {
  const source = await fixture.store.open(scope, digest, { signal: AbortSignal.timeout(10_000) })
  return Buffer.concat((await source?.toArray()) ?? [])
}

/** What a build has pushed, as documents for another build to import. */
async function documentsOf(fixture: Fixture, grant: Grant): Promise<GrantDocument[]> {
  const pushed = grant.pushed.get('record')
  if (pushed === undefined) throw new Error('no record was pushed')
  const bytes = await readBlob(fixture, pushed.digest)
  return [{ ...pushed, bytes, tag: 'record' }]
}

test('what one BuildKit exports, a fresh one imports, and layers are linked rather than sent', async (t) => {
  await using first = await startBuildkitd()
  await using fixture = await openFixture({
    contentFile: (_scope, digest) => contentFile(first.root, digest),
  })
  const { folder } = fixture
  const files = { file: 'content' }

  using writing = fixture.writer()
  const exportTo = refOf(fixture, writing)
  const cold = await build(folder, { address: first.address, dockerfile, files, exportTo })
  t.is(cold.exitCode, 0, cold.output)
  t.deepEqual([...cold.steps.values()], Array(steps).fill('ran'))
  t.deepEqual([...writing.pushed.keys()], ['record'])
  for (const layer of cold.layers) t.true(fixture.store.stat(scope, layer as Digest) !== undefined)
  // The config of the record is all that BuildKit has not as a file.
  t.true(writing.bytesLinked > 500_000, `${writing.bytesLinked} bytes linked`)
  t.true(writing.bytesUploaded < 10_000, `${writing.bytesUploaded} bytes uploaded`)

  using again = fixture.writer()
  const unchanged = await build(folder, {
    address: first.address,
    dockerfile,
    files,
    exportTo: refOf(fixture, again),
  })
  t.deepEqual([...unchanged.steps.values()], Array(steps).fill('cached'))
  t.is(again.bytesLinked, 0)
  t.deepEqual(again.pushed.get('record'), writing.pushed.get('record'))

  await using second = await startBuildkitd()
  using reading = fixture.reader(await documentsOf(fixture, writing))
  const importFrom = refOf(fixture, reading)
  const refilled = await build(folder, { address: second.address, dockerfile, files, importFrom })
  t.is(refilled.exitCode, 0, refilled.output)
  t.deepEqual([...refilled.steps.values()], Array(steps).fill('cached'))
  t.deepEqual(refilled.layers, cold.layers)
  t.true(reading.bytesRead > 500_000, `${reading.bytesRead} bytes read`)
  t.is(reading.undeliverable.size, 0)
})

test('without a file to link, BuildKit pushes its layers through HTTP', async (t) => {
  await using daemon = await startBuildkitd()
  await using fixture = await openFixture()
  using writing = fixture.writer()
  const built = await build(fixture.folder, {
    address: daemon.address,
    dockerfile: `${base}${run('one')}`,
    exportTo: refOf(fixture, writing),
  })
  t.is(built.exitCode, 0, built.output)
  t.true(writing.bytesUploaded > 500_000)
  t.is(writing.bytesLinked, 0)
  for (const layer of built.layers) t.true(fixture.store.stat(scope, layer as Digest) !== undefined)
})

test('a blob that a record promised in vain fails the build, and the grant knows which', async (t) => {
  await using first = await startBuildkitd()
  await using fixture = await openFixture()
  using writing = fixture.writer()
  const request = { dockerfile: `${base}${run('one')}` }
  const exportTo = refOf(fixture, writing)
  const built = await build(fixture.folder, { ...request, address: first.address, exportTo })
  const documents = await documentsOf(fixture, writing)
  const lost = built.layers.at(-1) as Digest
  writing[Symbol.dispose]()
  await fixture.store.remove(scope, lost)

  await using second = await startBuildkitd()
  using reading = fixture.reader(documents)
  const importFrom = refOf(fixture, reading)
  const failed = await build(fixture.folder, { ...request, address: second.address, importFrom })
  t.not(failed.exitCode, 0)
  t.deepEqual([...reading.undeliverable], [lost])
  // Without the import the same daemon builds it.
  const replayed = await build(fixture.folder, { ...request, address: second.address })
  t.is(replayed.exitCode, 0, replayed.output)
})

test('an export with everything reused moves no layer here that a peer has', async (t) => {
  await using first = await startBuildkitd()
  await using there = await openFixture()
  using writing = there.writer()
  const request = { dockerfile, files: { file: 'content' } }
  const exportTo = refOf(there, writing)
  const built = await build(there.folder, { ...request, address: first.address, exportTo })
  t.is(built.exitCode, 0, built.output)
  const documents = await documentsOf(there, writing)
  const [manifest] = documents
  const { config } = JSON.parse(Buffer.from(manifest?.bytes ?? []).toString())
  documents.push({ ...config, bytes: await readBlob(there, config.digest) })

  const brought: Digest[] = []
  await using here = await openFixture({
    sources: (store) => ({
      whereabouts: (of, { digest }) => (there.store.stat(of, digest) ? 'near' : undefined),
      async bring(of, { digest, size }) {
        brought.push(digest)
        await using writer = await store.createWriter(of)
        await writer.write(await readBlob(there, digest))
        await writer.commit(digest)
        return { type: 'brought', bytesBySource: new Map([['there', size]]) }
      },
    }),
  })
  await using second = await startBuildkitd()
  using reading = here.reader(documents)
  using keeping = here.writer(scope, promisesOf(documents))
  const reused = {
    ...request,
    address: second.address,
    importFrom: refOf(here, reading),
    exportTo: refOf(here, keeping),
  }
  const withoutOutput = await build(here.folder, { ...reused, withoutOutput: true })
  t.is(withoutOutput.exitCode, 0, withoutOutput.output)
  t.deepEqual([...withoutOutput.steps.values()], Array(steps).fill('cached'))
  t.deepEqual(brought, [])
  const layersOf = (record: { bytes: Uint8Array } | undefined) =>
    (JSON.parse(Buffer.from(record?.bytes ?? []).toString()).layers as { digest: Digest }[])
      .map(({ digest }) => digest)
      .sort()
  const [exported] = await documentsOf(here, keeping)
  t.deepEqual(layersOf(exported), layersOf(manifest))

  // What is asked for is brought, in the same daemon's life.
  const withOutput = await build(here.folder, reused)
  t.is(withOutput.exitCode, 0, withOutput.output)
  t.deepEqual(withOutput.layers, built.layers)
  t.deepEqual(brought.sort(), [...built.layers].sort() as Digest[])
  t.is(reading.undeliverable.size, 0)
})
