/** A build that fails or is cancelled has finished some steps: these are kept, and nothing runs for it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import anyTest, { type TestFn } from 'ava'
import {
  BuildOutcome,
  KeepOutcome,
  type SolveReport,
  StepOutcome,
} from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { type ClientKind, clientKinds, createContext, writeContext } from './context.ts'
import { sleeperEnds } from './sleepers.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

async function build(builder: Builder, kind: ClientKind, context: string, noCache = false) {
  const result = await builder.through[kind](clientKinds[kind](context, { noCache }))
  return { ...result, report: await builder.settled() }
}

function stepOf(report: SolveReport, text: string) {
  return report.steps.find((step) => step.name.includes(text))
}

for (const kind of ['buildctl', 'buildx'] as const) {
  test.serial(`a fresh BuildKit reuses what a failed build of ${kind} has finished`, async (t) => {
    const { builder } = t.context
    const [one, copied, failing] = [`first ${kind}`, `second ${kind}`, `breaks ${kind}`]
    await using context = await createContext(
      [
        `RUN echo ${one} > /one`,
        'COPY file /file',
        `RUN cat /file && echo ${copied}`,
        `RUN echo ${failing}; exit 9`,
        'RUN echo never',
      ].join('\n'),
      { file: kind },
    )
    const failed = await build(builder, kind, context.path)
    t.not(failed.exitCode, 0)
    t.is(failed.report.outcome, BuildOutcome.BUILD_OUTCOME_FAILED)
    t.is(failed.report.keep, KeepOutcome.KEEP_OUTCOME_KEPT, failed.report.keepReason)
    t.is(await builder.runs(failing), 1)

    await builder.forgetBuildkit()
    const again = await build(builder, kind, context.path)
    t.not(again.exitCode, 0)
    t.is(stepOf(again.report, one)?.outcome, StepOutcome.STEP_OUTCOME_REUSED)
    t.is(stepOf(again.report, copied)?.outcome, StepOutcome.STEP_OUTCOME_REUSED)
    t.is(await builder.runs(one), 1)
    t.is(await builder.runs(copied), 1)
    t.is(await builder.runs(failing), 2)
    // Everything that this one finished was there before.
    t.is(again.report.keep, KeepOutcome.KEEP_OUTCOME_NOTHING)
  })
}

test.serial('of stages side by side, those that finished are kept; none runs on', async (t) => {
  const { builder } = t.context
  await using context = await createContext(
    [
      'FROM base AS left\nRUN echo left done > /left',
      'FROM base AS right\nRUN echo right done > /right\nRUN sleep 86397',
      'FROM base AS broken\nRUN sleep 1; echo broken stage; exit 3',
      'FROM base\nCOPY --from=left /left /\nCOPY --from=right /right /\nCOPY --from=broken /x /',
    ].join('\n'),
  )
  const failed = await build(builder, 'buildx', context.path)
  t.not(failed.exitCode, 0)
  t.is(failed.report.keep, KeepOutcome.KEEP_OUTCOME_KEPT, failed.report.keepReason)
  await t.notThrowsAsync(sleeperEnds('86397'))
  await builder.forgetBuildkit()
  const again = await build(builder, 'buildx', context.path)
  t.is(stepOf(again.report, 'left done')?.outcome, StepOutcome.STEP_OUTCOME_REUSED)
  t.is(stepOf(again.report, 'right done')?.outcome, StepOutcome.STEP_OUTCOME_REUSED)
  t.is(await builder.runs('left done'), 1)
  t.is(await builder.runs('right done'), 1)
  t.is(await builder.runs('broken stage'), 2)
})

test.serial('a failed build without cache keeps what it ran, each step once more', async (t) => {
  const { builder } = t.context
  await using context = await createContext(
    'RUN sleep 0.3; echo uncached work > /work\nRUN echo uncached failure; exit 5',
  )
  t.not((await build(builder, 'buildx', context.path)).exitCode, 0)
  const second = await build(builder, 'buildx', context.path, true)
  t.not(second.exitCode, 0)
  t.is(second.report.keep, KeepOutcome.KEEP_OUTCOME_KEPT, second.report.keepReason)
  t.is(await builder.runs('uncached work'), 2)
  t.is(await builder.runs('uncached failure'), 2)
})

test.serial('who tries again at once gets a try, not the failure of before', async (t) => {
  const { builder } = t.context
  await using context = await createContext(
    [
      'RUN echo done before > /done',
      'RUN --mount=type=cache,target=/tries,id=tries if [ -e /tries/one ]; then echo went well; else touch /tries/one; exit 1; fi',
    ].join('\n'),
  )
  const args = clientKinds.buildx(context.path)
  const first = await builder.through.buildx(args)
  t.not(first.exitCode, 0)
  const second = await builder.through.buildx(args)
  t.is(second.exitCode, 0, second.stderr)
  await builder.settled()
  await builder.settled()
  t.is(await builder.runs('done before'), 1)
})

test.serial('what was finished when Ctrl-C came is kept', async (t) => {
  const { builder } = t.context
  await using context = await createContext('RUN echo before ctrl-c > /x\nRUN sleep 86396')
  const { command, args, env } = builder.through.buildxCommand(clientKinds.buildx(context.path))
  const client = spawn(command, args, { env, stdio: 'ignore' })
  const ended = once(client, 'exit')
  await builder.running('sleep 86396')
  client.kill('SIGINT')
  await ended
  const cancelled = await builder.settled()
  t.is(cancelled.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  t.is(cancelled.keep, KeepOutcome.KEEP_OUTCOME_KEPT, cancelled.keepReason)
  await builder.forgetBuildkit()
  await writeContext(context.path, {
    Dockerfile: (await dockerfileOf(context.path)).replace('sleep 86396', 'echo at last'),
  })
  await using out = await createTemporaryFolder('out')
  const built = await builder.through.buildx(
    clientKinds.buildx(context.path, { output: `type=local,dest=${out.path}` }),
  )
  t.is(built.exitCode, 0, built.stderr)
  await builder.settled()
  t.is(await builder.runs('before ctrl-c'), 1)
  t.is(await builder.runs('sleep 86396'), 1)
})

function dockerfileOf(folder: string): Promise<string> {
  return readFile(`${folder}/Dockerfile`, 'utf8')
}
