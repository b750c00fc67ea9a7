/** A cached blob that vanishes after its record was served costs the hit, never the build. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import anyTest, { type TestFn } from 'ava'
import { parseDigest } from '../../core/digest.ts'
import { BuildOutcome, KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>
const run = promisify(execFile)

test.beforeEach(async (t) => {
  t.context.builder = await startBuilder()
})

test.afterEach.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

for (const kind of ['buildctl', 'buildx'] as const) {
  test.serial(`${kind} gets its result when every cached blob is gone`, async (t) => {
    const { builder } = t.context
    await using context = await createContext(
      'RUN echo precious > /made\nFROM scratch\nCOPY --from=base /made /made',
    )
    await using out = await createTemporaryFolder('out')
    const tar = path.join(out.path, 'result.tar')
    const args = clientKinds[kind](context.path, { output: `type=tar,dest=${tar}` })
    t.is((await builder.through[kind](args)).exitCode, 0)
    t.is((await builder.settled()).keep, KeepOutcome.KEEP_OUTCOME_KEPT)

    await builder.forgetBuildkit()
    const removals: Promise<void>[] = []
    builder.onCompose = (digests, release) => {
      // Nothing but this test would take away what a build has pinned.
      release()
      for (const digest of digests) {
        removals.push(builder.store.remove(builder.scope, parseDigest(digest)))
      }
    }
    const again = await builder.through[kind](args)
    t.is(again.exitCode, 0, again.stderr)
    await Promise.all(removals)
    t.true(removals.length > 0)
    t.is((await run('tar', ['-xOf', tar, 'made'])).stdout, 'precious\n')
    const report = await builder.settled()
    t.true(report.replayed)
    t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
    t.is(report.keep, KeepOutcome.KEEP_OUTCOME_KEPT, report.keepReason)
    t.is(await builder.runs('echo precious'), 2)

    delete builder.onCompose
    await builder.forgetBuildkit()
    t.is((await builder.through[kind](args)).exitCode, 0)
    t.is(await builder.runs('echo precious'), 2)
  })
}

test.serial(
  'a build that would have failed anyway fails after the replay, with its own error',
  async (t) => {
    const { builder } = t.context
    const dockerfile = 'RUN echo base > /made'
    await using first = await createContext(dockerfile)
    t.is((await builder.through.buildctl(clientKinds.buildctl(first.path))).exitCode, 0)
    await builder.settled()
    await builder.forgetBuildkit()
    builder.onCompose = (digests, release) => {
      release()
      for (const digest of digests) void builder.store.remove(builder.scope, parseDigest(digest))
    }
    await using second = await createContext(`${dockerfile}\nRUN echo no luck; exit 9`)
    const failed = await builder.through.buildctl(clientKinds.buildctl(second.path))
    t.not(failed.exitCode, 0)
    t.regex(failed.stderr, /exit code: 9/)
    t.is(await builder.runs('no luck'), 1)
  },
)
