/** One solve for several platforms has several results; the cache of all of them is kept. */
import anyTest, { type TestFn } from 'ava'
import { KeepOutcome, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

test.serial('the cache of a build for two platforms is kept and found again', async (t) => {
  const { builder } = t.context
  // This machine runs both by itself.
  await using context = await createContext('ARG TARGETARCH\nRUN echo made for $TARGETARCH > /made')
  const args = clientKinds.buildx(context.path, { flags: ['--platform', 'linux/amd64,linux/386'] })
  const first = await builder.through.buildx(args)
  t.is(first.exitCode, 0, first.stderr)
  const kept = await builder.settled()
  t.is(kept.keep, KeepOutcome.KEEP_OUTCOME_KEPT, kept.keepReason)
  await builder.forgetBuildkit()
  const second = await builder.through.buildx(args)
  t.is(second.exitCode, 0, second.stderr)
  const { steps } = await builder.settled()
  t.is(steps.filter((step) => step.name.includes('made for')).length, 2)
  t.true(steps.every((step) => step.outcome === StepOutcome.STEP_OUTCOME_REUSED))
})
