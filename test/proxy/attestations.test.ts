/**
 * Provenance and SBOM of builds through Hearth are those of a stock buildkitd, but for times and ids: as
 * manifests of a pushed index and as files of a local output; cold, and from cache.
 */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { writeFrontendContext, writeScannerContext } from '../harness/attesting-images.ts'
import { type BuildxClient, createBuildxClient } from '../harness/buildx.ts'
import {
  type CommandResult,
  createTemporaryFolder,
  startBuildkitd,
  startUpstreamRegistry,
  type UpstreamRegistry,
} from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'

const test = anyTest as TestFn<{
  builder: Builder
  registry: UpstreamRegistry
  /** Folder of the context that is built. */
  context: string
  resources: AsyncDisposableStack
}>

test.before(async (t) => {
  const resources = new AsyncDisposableStack()
  t.context.resources = resources
  const registry = resources.use(await startUpstreamRegistry())
  t.context.registry = registry
  {
    // Away from the daemons that are compared: what one of them has made, it knows more of.
    await using maker = await startDirect()
    for (const [name, write] of [
      ['frontend', writeFrontendContext],
      ['scanner', writeScannerContext],
    ] as const) {
      await using folder = await createTemporaryFolder(name)
      await write(folder.path)
      const tag = `${registry.host}/${name}:1`
      const made = await maker.build(['--provenance=false', '-t', tag, '--push', folder.path])
      if (made.exitCode !== 0) throw new Error(made.stderr)
    }
  }
  t.context.builder = resources.use(await startBuilder({ reach: [registry.host] }))
  const { path: context } = resources.use(await createTemporaryFolder('context'))
  t.context.context = context
  await writeFile(path.join(context, 'main.c'), 'int main;\n')
})

/** @param folder steps and results are others than with another one: nothing of them comes from a cache. */
async function writeDockerfile(
  { registry, context }: { registry: UpstreamRegistry; context: string },
  folder: string,
): Promise<void> {
  const lines = [
    `# syntax=${registry.host}/frontend:1`,
    `FROM ${registry.host}/scanner:1 AS build`,
    'ARG VERSION=1',
    `WORKDIR ${folder}`,
    'COPY main.c .',
    'RUN --mount=type=cache,target=/c --mount=type=secret,id=s echo $VERSION $PWD > out',
    `FROM ${registry.host}/scanner:1`,
    `COPY --from=build ${folder}/out /app/out`,
    'RUN sha256sum /app/out > /app/sum',
  ]
  await writeFile(path.join(context, 'Dockerfile'), lines.join('\n'))
}

test.after.always(async (t) => {
  await t.context.resources?.disposeAsync()
})

async function startDirect(): Promise<BuildxClient> {
  await using stack = new AsyncDisposableStack()
  const buildkitd = stack.use(await startBuildkitd())
  const client = stack.use(await createBuildxClient(buildkitd.address))
  const owned = stack.move()
  return { ...client, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

interface Side {
  /** Arguments of `buildx build`. */
  build(args: readonly string[]): Promise<CommandResult>
}

test.serial('a pushed index: the first build', async (t) => {
  await using direct = await startDirect()
  await writeDockerfile(t.context, '/src')
  const ours = await attestations(t.context, throughHearth(t.context.builder))
  t.deepEqual(ours, await attestations(t.context, direct))
  const [scan, provenance] = ours.statements as { predicate: Record<string, unknown> }[]
  t.deepEqual(
    (scan?.predicate.packages as { name: string }[] | undefined)?.map(({ name }) => name),
    ['app/out', 'app/sum'],
  )
  const text = JSON.stringify(provenance)
  t.regex(text, /"build-arg:VERSION":"2"/)
  t.regex(text, /frontend:1/)
  t.notRegex(text, /hearth\.cache|cache-imports/)
})

test.serial('a pushed index: from cache, in the same BuildKit and in a fresh one', async (t) => {
  const { builder, registry } = t.context
  await using direct = await startDirect()
  await using fresh = await startDirect()
  // A cache export leaves a layer for every step, and BuildKit's provenance lists the layers there are.
  const cache = `type=registry,ref=${registry.host}/cache:1`
  const exporting = [`--cache-to=${cache},mode=max,image-manifest=true,oci-mediatypes=true`]
  await attestations(t.context, throughHearth(builder))
  await attestations(t.context, direct, exporting)
  t.deepEqual(
    await attestations(t.context, throughHearth(builder)),
    await attestations(t.context, direct, [`--cache-from=${cache}`]),
  )
  await builder.forgetBuildkit()
  t.deepEqual(
    await attestations(t.context, throughHearth(builder)),
    await attestations(t.context, fresh, [`--cache-from=${cache}`]),
  )
})

test.serial('files of a local output', async (t) => {
  // What is imported names the layers of base images too: nothing may have been built here before.
  await using builder = await startBuilder({ reach: [t.context.registry.host] })
  await using direct = await startDirect()
  await writeDockerfile(t.context, '/other')
  const [ours, theirs] = await Promise.all(
    [throughHearth(builder), direct].map(async (side) => {
      await using out = await createTemporaryFolder('out')
      const output = `type=local,dest=${out.path}`
      const built = await side.build([...asked(t.context), '-o', output, t.context.context])
      t.is(built.exitCode, 0, built.stderr)
      const read = async (name: string): Promise<unknown> =>
        comparable(JSON.parse(await readFile(path.join(out.path, name), 'utf8')))
      return [await read('provenance.json'), await read('sbom.spdx.json')]
    }),
  )
  t.deepEqual(ours, theirs)
})

/** Waits until the cache of each build is kept. */
function throughHearth(builder: Builder): Side {
  return {
    async build(args) {
      const result = await builder.through.buildx(['build', '--progress', 'plain', ...args])
      const { keep, keepReason } = await builder.settled()
      if (keep !== KeepOutcome.KEEP_OUTCOME_KEPT) throw new Error(`not kept: ${keepReason}`)
      return result
    },
  }
}

function asked({ registry }: { registry: UpstreamRegistry }): string[] {
  const scanner = `--sbom=generator=${registry.host}/scanner:1`
  return ['--provenance=mode=max', scanner, '--build-arg', 'VERSION=2']
}

interface Descriptor {
  mediaType: string
  digest: string
  annotations?: Record<string, string>
  platform?: unknown
}

/** Builds, pushes and fetches what was attested: the form of the index, and the statements in their order. */
async function attestations(
  context: { registry: UpstreamRegistry; context: string },
  side: Side,
  more: readonly string[] = [],
): Promise<{ form: unknown; statements: unknown[] }> {
  const { registry } = context
  const tag = `${registry.host}/out:1`
  const args = [...asked(context), ...more, '-t', tag, '--push', context.context]
  const built = await side.build(args)
  if (built.exitCode !== 0) throw new Error(built.stderr)
  const get = async (what: string): Promise<unknown> => {
    const accept =
      'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json'
    const answer = await fetch(`${registry.url}/v2/out/${what}`, { headers: { accept } })
    if (!answer.ok) throw new Error(`${what}: ${answer.status}`)
    return answer.json()
  }
  const index = (await get('manifests/1')) as { manifests: Descriptor[] }
  const attested = index.manifests.find(({ annotations }) => annotations !== undefined)
  const manifest = (await get(`manifests/${attested?.digest}`)) as { layers: Descriptor[] }
  const statements = await Promise.all(
    manifest.layers.map(async ({ digest }) => comparable(await get(`blobs/${digest}`))),
  )
  return { form: comparable({ index, manifest }), statements }
}

const timesAndIds = new Set(['invocationId', 'startedOn', 'finishedOn', 'size', 'created'])

/**
 * The base image, among the layers of each step: a stock BuildKit lists them in most builds and leaves them out
 * in some (one in five, of the same build in a fresh buildkitd each time).
 */
const chance = 'step0:0'

/** Without times, ids and the digests that follow from them; maps by digest become lists. */
function comparable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(comparable)
  if (typeof value === 'string') return value.replaceAll(/[0-9a-f]{64}/g, 'DIGEST')
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([key]) => !timesAndIds.has(key) && key !== chance)
  if (entries.every(([key]) => key.startsWith('sha256:'))) {
    return entries.map(([, entry]) => JSON.stringify(comparable(entry))).sort()
  }
  const comparables = entries.map(([key, entry]) => [key, comparable(entry)] as const)
  // Where only that was listed, there may as well be no list.
  const isNoList = ([key, entry]: readonly [string, unknown]) =>
    key === 'layers' && Array.isArray(entry) && entry.length === 0
  return Object.fromEntries(comparables.filter((entry) => !isNoList(entry)))
}
