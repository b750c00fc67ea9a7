/** An export that fails costs the cache of the build, with a reason, and the build nothing. */
import { stat } from 'node:fs/promises'
import path from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { BuildOutcome, KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder({ storeBytes: 16 * 1024 * 1024 })
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

test.serial('the disk of the store is full when a build is exported', async (t) => {
  const { builder } = t.context
  await using large = await createContext(
    'RUN head -c 24000000 /dev/urandom > /made\nFROM scratch\nCOPY --from=base /made /',
  )
  await using out = await createTemporaryFolder('out')
  const options = { output: `type=local,dest=${out.path}` }
  const built = await builder.through.buildx(clientKinds.buildx(large.path, options))
  t.is(built.exitCode, 0, built.stderr)
  t.is((await stat(path.join(out.path, 'made'))).size, 24_000_000)
  const report = await builder.settled()
  t.log(report.keepReason)
  t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.is(report.keep, KeepOutcome.KEEP_OUTCOME_LOST)
  t.regex(report.keepReason, /no space left on device/i)
  t.is(report.failure, undefined)

  // What was given up leaves its room to what fits.
  await using small = await createContext('RUN echo fits')
  const next = await builder.through.buildx(clientKinds.buildx(small.path))
  t.is(next.exitCode, 0, next.stderr)
  const kept = await builder.settled()
  t.is(kept.keep, KeepOutcome.KEEP_OUTCOME_KEPT, kept.keepReason)
})
