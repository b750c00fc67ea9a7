/** The registry against a registry client of another make (crane), and a registry of another make. */
import { createHash } from 'node:crypto'
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { findProgram } from '../../core/programs.ts'
import {
  type Fixture,
  openFixture,
  scope,
} from '../../node/buildkit-runner/registry/temporary-registry.fixture.ts'
import {
  createTemporaryFolder,
  runTimed,
  startBuildkitd,
  startUpstreamRegistry,
} from '../harness/index.ts'
import { type ImageLayout, writeImageLayouts } from './image-layouts.ts'

const imagesCount = 100
const atOnce = 4

/** Runs crane and expects success. @returns what it printed. */
async function crane(t: ExecutionContext, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runTimed(await findProgram('crane'), args)
  t.is(exitCode, 0, `crane ${args.slice(0, 3).join(' ')}: ${stderr}`)
  return stdout.trim()
}

async function forEachOf<T>(all: readonly T[], work: (one: T, place: number) => Promise<void>) {
  const waiting = all.entries()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const [place, one] of waiting) await work(one, place)
    }),
  )
}

/** Every blob of a layout that crane has written, by digest, with its bytes hashed anew. */
async function contentsOf(layout: string): Promise<Map<string, Buffer>> {
  const folder = path.join(layout, 'blobs', 'sha256')
  const contents = new Map<string, Buffer>()
  for (const name of await readdir(folder)) {
    const bytes = await readFile(path.join(folder, name))
    contents.set(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes)
  }
  return contents
}

async function pushAll(t: ExecutionContext, images: readonly ImageLayout[], repository: string) {
  await forEachOf(images, async ({ folder, isIndex }, number) => {
    const target = `${repository}:v${number}`
    await crane(t, 'push', '--insecure', ...(isIndex ? ['--index'] : []), folder, target)
  })
}

async function pullAll(t: ExecutionContext, images: readonly ImageLayout[], repository: string) {
  await using folder = await createTemporaryFolder('pulled')
  const refs = images.map((_, number) => `${repository}:v${number}`)
  await crane(t, 'pull', '--insecure', '--format=oci', ...refs, folder.path)
  const pulled = await contentsOf(folder.path)
  const wanted = new Set(images.flatMap(({ contents }) => [...contents.keys()]))
  t.deepEqual([...pulled.keys()].sort(), [...wanted].sort())
  for (const { contents } of images) {
    for (const [digest, bytes] of contents) t.true(pulled.get(digest)?.equals(bytes))
  }
}

/** Content that a client reads through the distribution protocol without knowing what an image is. */
async function jsonOf(
  t: ExecutionContext,
  url: string,
): Promise<{ manifests: { digest: string }[] }> {
  const answer = await fetch(url)
  t.is(answer.status, 200)
  return (await answer.json()) as { manifests: { digest: string }[] }
}

function repositoryOf(fixture: Fixture, name: string): string {
  const grant = fixture.keeper()
  return `127.0.0.1:${fixture.registry.port}/${grant.capability}/${name}`
}

test('a hundred images of every kind go in and come out again byte for byte', async (t) => {
  await using folder = await createTemporaryFolder('layouts')
  await using fixture = await openFixture()
  const images = await writeImageLayouts(folder.path, imagesCount)
  await pushAll(t, images, repositoryOf(fixture, 'team/app'))

  // Through another capability: what was pushed belongs to the scope.
  const reading = repositoryOf(fixture, 'team/app')
  await pullAll(t, images, reading)
  const tags = (await crane(t, 'ls', '--insecure', reading)).split('\n')
  t.deepEqual(tags, images.map((_, number) => `v${number}`).sort())

  for (const [number, { subject, root }] of images.entries()) {
    if (subject === undefined) continue
    const [host, ...name] = reading.split('/')
    const url = `http://${host}/v2/${name.join('/')}/referrers/${subject.digest}`
    const { manifests } = await jsonOf(t, url)
    t.deepEqual(
      manifests.map(({ digest }) => digest),
      [root.digest],
      `v${number}`,
    )
  }
  await crane(t, 'tag', '--insecure', `${reading}:v1`, 'newest')
  t.is(await crane(t, 'digest', '--insecure', `${reading}:newest`), images[1]?.root.digest ?? '')
  await crane(t, 'delete', '--insecure', `${reading}:newest`)
  t.false((await crane(t, 'ls', '--insecure', reading)).split('\n').includes('newest'))
})

test('images are copied to and from a registry of another make', async (t) => {
  await using folder = await createTemporaryFolder('layouts')
  await using fixture = await openFixture()
  await using upstream = await startUpstreamRegistry()
  // docker-registry 2.8 knows neither zstd's media type nor referrers, and takes both for what they are: bytes.
  const images = await writeImageLayouts(folder.path, 20)
  const theirs = `${upstream.host}/team/app`
  await pushAll(t, images, theirs)
  const ours = repositoryOf(fixture, 'copied')
  await crane(t, 'copy', '--insecure', '--all-tags', theirs, ours)
  await pullAll(t, images, ours)
  const back = `${upstream.host}/team/back`
  await crane(t, 'copy', '--insecure', '--all-tags', ours, back)
  await pullAll(t, images, back)
})

test('what BuildKit pushes, another client pulls and finds valid', async (t) => {
  await using folder = await createTemporaryFolder('context')
  await using fixture = await openFixture()
  await using daemon = await startBuildkitd()
  await copyFile('/bin/busybox', path.join(folder.path, 'busybox'))
  await writeFile(
    path.join(folder.path, 'Dockerfile'),
    'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "touch", "/made"]\n',
  )
  const repository = repositoryOf(fixture, 'built')
  for (const compression of ['gzip', 'zstd', 'estargz', 'uncompressed']) {
    const target = `${repository}:${compression}`
    const output = `type=image,name=${target},push=true,oci-mediatypes=true,compression=${compression}`
    const built = await runTimed(await findProgram('buildctl'), [
      ...['--addr', daemon.address, 'build', '--frontend', 'dockerfile.v0'],
      ...['--local', `context=${folder.path}`, '--local', `dockerfile=${folder.path}`],
      ...['--opt', 'attest:provenance=mode=max'],
      ...['--output', `${output},force-compression=true`],
    ])
    t.is(built.exitCode, 0, built.stderr)
    // It takes every layer for gzip when it unpacks them.
    const depth = ['gzip', 'estargz'].includes(compression) ? [] : ['--fast']
    await crane(t, 'validate', '--insecure', ...depth, '--remote', target)
    const pulled = path.join(folder.path, compression)
    await crane(t, 'pull', '--insecure', '--format=oci', target, pulled)
    const digest = await crane(t, 'digest', '--insecure', target)
    const contents = await contentsOf(pulled)
    const index = JSON.parse(contents.get(digest)?.toString() ?? '{}') as { manifests: object[] }
    t.is(index.manifests.length, 2, 'the image and its attestation')
  }
})

test('an image of our side is pulled by another client, and one whose layer was evicted is not', async (t) => {
  await using folder = await createTemporaryFolder('layouts')
  await using fixture = await openFixture()
  const image = (await writeImageLayouts(folder.path, 4)).at(3)
  if (image === undefined) throw new Error('four were asked for')
  for (const bytes of image.contents.values()) await fixture.put(bytes)
  const [host, capability, name] = repositoryOf(fixture, 'ours').split('/')
  const manifest = image.contents.get(image.root.digest) ?? Buffer.alloc(0)
  const target = `/v2/${capability}/${name}/manifests/latest`
  const headers = { 'content-type': image.root.mediaType }
  t.is((await fixture.call('PUT', target, { body: manifest, headers })).status, 201)
  const ref = `${host}/${capability}/${name}:latest`
  // A reader pins nothing, so that what it reads may be evicted.
  using reading = fixture.registry.grant({
    scope,
    right: 'read',
    tags: 'of the scope',
    lifetimeMs: 600_000,
  })
  const read = `${host}/${reading.capability}/${name}:latest`
  await crane(t, 'validate', '--insecure', '--remote', read)

  const { layers } = JSON.parse(manifest.toString()) as { layers: { digest: `sha256:${string}` }[] }
  const evicted = layers.at(-1)?.digest
  if (evicted === undefined) throw new Error('it has layers')
  await fixture.store.remove(scope, evicted)
  const lacking = await runTimed(await findProgram('crane'), [
    'validate',
    '--insecure',
    '--remote',
    read,
  ])
  t.not(lacking.exitCode, 0)
  t.regex(lacking.stderr, /MANIFEST_UNKNOWN/)
  await crane(t, 'push', '--insecure', image.folder, ref)
  await crane(t, 'validate', '--insecure', '--remote', read)
})
