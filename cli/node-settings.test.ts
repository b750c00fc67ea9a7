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
  })
  const flags = { slots: '3', buildMemory: '6g', buildCpus: '1.5' }
  t.deepEqual(await readNodeSettings(layers(flags, { HEARTH_REACH_LOOPBACK: '5000, 3128,5000' })), {
    slots: 3,
    buildMemoryBytes: 6 * gib,
    buildCpus: 1.5,
    reachLoopback: [5000, 3128],
  })
  const { buildMemoryBytes } = await readNodeSettings(layers({ buildMemory: '512MB' }))
  t.is(buildMemoryBytes, 512 * mib)
})

for (const [name, flag, values] of [
  ['buildMemory', '--build-memory', ['6 g', '1g5', '63m', '0', '-1g', '6t']],
  ['buildCpus', '--build-cpus', ['0', '1,5', '1e3', '2000', 'all']],
  ['reachLoopback', '--reach-loopback', ['0', '65536', '5000;80', 'localhost:80', ',']],
] as const) {
  for (const value of values) {
    test(`${flag} "${value}" is refused with the flag's name and an example`, async (t) => {
      const error = await t.throwsAsync(readNodeSettings(layers({ [name]: value })))
      t.true(error?.message.startsWith(`${flag}: "${value}" is no `), error?.message)
    })
  }
}
