import { access, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import {
  busyboxImage,
  createBuildxClient,
  createTemporaryFolder,
  fetchImage,
  pushImage,
  startBuildkitd,
  startProcess,
  startS3,
  startUpstreamRegistry,
} from './index.ts'

test('a plain BuildKit builds on the busybox image and its result comes out of the registry whole', async (t) => {
  await using registry = await startUpstreamRegistry()
  await using buildkitd = await startBuildkitd()
  await using buildx = await createBuildxClient(buildkitd.address)
  await using context = await createTemporaryFolder('context')
  const base = await pushImage(registry.host, 'busybox', '1', await busyboxImage())
  t.is((await fetchImage(registry.host, 'busybox', '1')).layers.length, 1)

  await writeFile(
    path.join(context.path, 'Dockerfile'),
    `FROM ${base}\nRUN echo made here | tee /made && ls -l /bin/sh\n`,
  )
  const name = `${registry.host}/made:1`
  const built = await buildx.build(['--output', `type=image,name=${name},push=true`, context.path])
  t.is(built.exitCode, 0, built.stderr)
  const image = await fetchImage(registry.host, 'made', '1')
  t.is(image.layers.length, 3, 'busybox, what RUN made, and the attestation')
})

test('the S3 server is up and refuses whoever lacks the key', async (t) => {
  await using s3 = await startS3()
  const refused = await fetch(`${s3.endpoint}/${s3.bucket}/object`, { method: 'PUT', body: 'x' })
  t.is(refused.status, 403)
})

test('what was started is gone after its block, its folder too', async (t) => {
  let host = ''
  {
    await using registry = await startUpstreamRegistry()
    host = registry.host
    t.true((await fetch(`http://${host}/v2/`)).ok)
  }
  await t.throwsAsync(fetch(`http://${host}/v2/`))
  let folder = ''
  {
    await using temporary = await createTemporaryFolder('gone')
    folder = temporary.path
    await access(folder)
  }
  await t.throwsAsync(access(folder))
})

test('a process that ends before it is ready is an error with its last words', async (t) => {
  const error = await t.throwsAsync(
    startProcess({
      command: 'sh',
      args: ['-c', 'echo the reason >&2; exit 3'],
      ready: () => false,
    }),
  )
  t.regex(error?.message ?? '', /ended before it was ready:\nthe reason/)
})

test('a process that is not ready in time is stopped', async (t) => {
  const error = await t.throwsAsync(
    startProcess({
      command: 'sh',
      args: ['-c', 'echo $$; exec sleep 60'],
      ready: () => false,
      readyWithinMs: 300,
    }),
  )
  const pid = Number(/in time:\n(\d+)/.exec(error?.message ?? '')?.[1])
  t.true(pid > 0)
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})
