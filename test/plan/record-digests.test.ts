/** The names that steps have in BuildKit's cache records, against what a real BuildKit exports. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { graphOfDefinition, recordDigest } from '../../plan/index.ts'
import { isStep } from '../../plan/operations.ts'
import { createBuildxClient, createTemporaryFolder, startBuildkitd } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'
import { startDefinitionTap } from './definition-tap.ts'

const dockerfile = [
  'FROM base AS made',
  'WORKDIR /work',
  'ARG WORDS="a < b & c > d"',
  'RUN echo "$WORDS" > words',
  'RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/tmp touch /cache/x',
  'RUN --mount=type=cache,id=other,sharing=locked,target=/cache touch /cache/y',
  'RUN --mount=type=bind,target=/context --mount=type=secret,id=none cat /context/a > b',
  'RUN --network=none true',
  'RUN <<EOT',
  'set -e',
  'echo "two\tlines" > lines',
  'EOT',
  'COPY a src/',
  'COPY --chown=1:2 --chmod=640 a owned',
  'COPY --exclude=*.md folder folder/',
  'COPY --link a linked',
  'RUN cat linked',
  'COPY <<EOT text',
  'some text for a file',
  'EOT',
  'ADD --chown=3 a added',
  'FROM base',
  'COPY --from=made /work /work',
  'USER 5',
  'RUN --mount=type=bind,from=base,target=/base cat /work/words',
].join('\n')

test('every step is found among the records that BuildKit exports', async (t) => {
  t.timeout(180_000)
  await using buildkitd = await startBuildkitd()
  await using tap = await startDefinitionTap(buildkitd.address.replace('unix://', ''))
  await using buildx = await createBuildxClient(tap.address)
  await using folder = await createTemporaryFolder('records')
  await using context = await createContext(dockerfile, {
    a: '1',
    'folder/b': '2',
    'folder/c.md': '3',
  })
  const cache = path.join(folder.path, 'cache')
  const built = await buildx.build([
    ...['--provenance', 'false', '--output', 'type=cacheonly'],
    ...['--cache-to', `type=local,dest=${cache},mode=max,image-manifest=true`],
    context.path,
  ])
  t.is(built.exitCode, 0, built.stderr)

  const blob = async (digest: string) =>
    JSON.parse(await readFile(path.join(cache, 'blobs/sha256', digest.slice(7)), 'utf8'))
  const index = JSON.parse(await readFile(path.join(cache, 'index.json'), 'utf8'))
  const manifest = await blob(index.manifests[0].digest)
  const config = await blob(manifest.config.digest)
  const exported = new Set(config.records.map(({ digest }: { digest: string }) => digest))

  const [definition] = tap.take()
  const steps = graphOfDefinition(definition ?? t.fail()).vertices.filter(isStep)
  t.true(steps.length >= 16)
  t.deepEqual(
    steps.filter(({ op }) => !exported.has(recordDigest(op, 0))).map(({ name }) => name),
    [],
  )
})
