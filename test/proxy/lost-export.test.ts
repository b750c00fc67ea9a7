/** An export that fails costs the cache of the build, with a reason, and the build nothing. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import anyTest, { type TestFn } from 'ava'
import { BuildOutcome, KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>
const run = promisify(execFile)

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

/** Puts a small file system of its own where the store keeps its blobs, until disposed. */
async function fillStore(builder: Builder): Promise<AsyncDisposable> {
  const blobs = path.join(builder.storeFolder, 'blobs')
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', blobs])
  return {
    async [Symbol.asyncDispose]() {
      await run('umount', ['--lazy', blobs])
    },
  }
}

test.serial('the disk of the store is full when a build is exported', async (t) => {
  const { builder } = t.context
  await using context = await createContext(
    'RUN head -c 1000000 /dev/urandom > /made && echo exported in vain\nFROM scratch\nCOPY --from=base /made /',
  )
  await using out = await createTemporaryFolder('out')
  const options = { output: `type=local,dest=${out.path}` }
  {
    await using _full = await fillStore(builder)
    const built = await builder.through.buildx(clientKinds.buildx(context.path, options))
    t.is(built.exitCode, 0, built.stderr)
    t.is((await readFile(path.join(out.path, 'made'))).length, 1_000_000)
    const report = await builder.settled()
    t.log(report.keepReason)
    t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
    t.is(report.keep, KeepOutcome.KEEP_OUTCOME_LOST)
    t.regex(report.keepReason, /no space left on device/i)
    t.is(report.failure, undefined)
  }
  const again = await builder.through.buildx(clientKinds.buildx(context.path, options))
  t.is(again.exitCode, 0, again.stderr)
  const kept = await builder.settled()
  t.is(kept.keep, KeepOutcome.KEEP_OUTCOME_KEPT, kept.keepReason)
  t.is(await builder.runs('exported in vain'), 1)
})
