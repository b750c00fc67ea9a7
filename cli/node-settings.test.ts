import test from 'ava'
import { gib, mib } from '../core/limits.ts'
import { readNodeSettings } from './node-settings.ts'

const layers = (flags: Record<string, string>, environment: Record<string, string> = {}) => ({
  flags,
  environment,
  files: [],
})

test('what a node may be told is read from flags and environment', async (t) => {
  t.deepEqual(await readNodeSettings(layers({})), {
    slots: undefined,
    buildMemoryBytes: undefined,
    buildCpus: undefined,
    reachLoopback: [],
    s3: undefined,
  })
  const flags = { slots: '3', buildMemory: '6g', buildCpus: '1.5' }
  t.deepEqual(await readNodeSettings(layers(flags, { HEARTH_REACH_LOOPBACK: '5000, 3128,5000' })), {
    slots: 3,
    buildMemoryBytes: 6 * gib,
    buildCpus: 1.5,
    reachLoopback: [5000, 3128],
    s3: undefined,
  })
  const { buildMemoryBytes } = await readNodeSettings(layers({ buildMemory: '512MB' }))
  t.is(buildMemoryBytes, 512 * mib)
})

test('an object store is a bucket, and elsewhere than at AWS an endpoint', async (t) => {
  const url = 's3://cache/mesh/one'
  const { s3 } = await readNodeSettings(layers({ s3: url }))
  t.deepEqual(s3, { url, endpoint: undefined })
  const endpoint = 'http://127.0.0.1:7070'
  const own = await readNodeSettings(layers({ s3: url }, { HEARTH_S3_ENDPOINT: endpoint }))
  t.deepEqual(own.s3, { url, endpoint })
  await t.throwsAsync(readNodeSettings(layers({ s3Endpoint: endpoint })), { message: /no bucket/ })
})

for (const [name, flag, values] of [
  ['buildMemory', '--build-memory', ['6 g', '1g5', '63m', '0', '-1g', '6t']],
  ['buildCpus', '--build-cpus', ['0', '1,5', '1e3', '2000', 'all']],
  ['reachLoopback', '--reach-loopback', ['0', '65536', '5000;80', 'localhost:80', ',']],
  ['s3', '--s3', ['cache', 's3:/cache', 'https://cache', 's3://Cache', 's3://']],
  ['s3Endpoint', '--s3-endpoint', ['127.0.0.1:7070', 'ftp://host', 'http://']],
] as const) {
  for (const value of values) {
    test(`${flag} "${value}" is refused with the flag's name and an example`, async (t) => {
      const error = await t.throwsAsync(readNodeSettings(layers({ [name]: value })))
      t.true(error?.message.startsWith(`${flag}: "${value}" is no `), error?.message)
    })
  }
}
