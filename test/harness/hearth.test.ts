import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import {
  busyboxImage,
  createBuildxClient,
  createTemporaryFolder,
  fetchImage,
  pushImage,
  startHearth,
  startUpstreamRegistry,
} from './index.ts'

test('a BuildKit that lost its state is refilled from the cache store, and its socket can be found', async (t) => {
  await using registry = await startUpstreamRegistry()
  await using hearth = await startHearth({ reach: [registry.host] })
  await using context = await createTemporaryFolder('context')
  const base = await pushImage(registry.host, 'busybox', '1', await busyboxImage())
  const dockerfile = `FROM ${base}\nWORKDIR /made\nRUN head -c 100000 /dev/urandom > random\n`
  await writeFile(path.join(context.path, 'Dockerfile'), dockerfile)
  const output = `type=image,name=${registry.host}/made:1,push=true`
  const args = ['--project', 'harness', '--output', output, context.path]

  async function build() {
    const built = await hearth.build(args)
    t.is(built.exitCode, 0, built.stderr)
    const info = await hearth.settled(built.buildId ?? '')
    const { layers } = await fetchImage(registry.host, 'made', '1')
    return { info, layers: layers.slice(0, 3) }
  }
  const cold = await build()
  t.is(cold.info.stepsReused, 0)
  t.is(cold.info.solves[0]?.keep, 'kept')

  await using direct = await createBuildxClient(await hearth.buildkitAddress('harness'))
  const straight = await direct.build(['--output', output, context.path])
  t.regex(straight.stderr, /\[3\/3\] RUN .*\n#\d+ CACHED/)

  await t.throwsAsync(hearth.deleteBuildkitState(), { message: /still up/ })
  await hearth.stop()
  await hearth.deleteBuildkitState()
  await hearth.start()
  const refilled = await build()
  t.is(refilled.info.stepsReused, refilled.info.stepsTotal)
  t.deepEqual(refilled.layers, cold.layers, 'the random bytes were not made again')
})

test('a build that fails is a result, not an exception', async (t) => {
  await using hearth = await startHearth()
  await using context = await createTemporaryFolder('context')
  await writeFile(path.join(context.path, 'Dockerfile'), 'FROM scratch\nCOPY missing /\n')
  const failed = await hearth.build(['--project', 'harness', context.path])
  t.not(failed.exitCode, 0)
  t.regex(failed.stderr, /missing/)
})
