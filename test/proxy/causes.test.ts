/** However a build comes to a bad end, its report names the cause and the step, and so does its client. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import {
  BuildOutcome,
  Cause,
  type Failure,
  KeepOutcome,
} from '../../proto/generated/hearth/v1/build.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'
import { sleeperAppears, sleeperEnds } from './sleepers.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

/** Builds what must fail. */
async function fail(t: ExecutionContext<{ builder: Builder }>, dockerfile: string) {
  const { builder } = t.context
  await using context = await createContext(dockerfile)
  const result = await builder.through.buildx(clientKinds.buildx(context.path))
  t.not(result.exitCode, 0)
  const report = await builder.settled()
  const failure = report.failure
  if (failure === undefined) throw new Error('the report has no failure')
  t.log(`${failure.text}; ${failure.advice}`)
  return { ...result, report, failure }
}

/** The first step behind the base of every Dockerfile here. */
function isOfFirstStep(t: ExecutionContext<{ builder: Builder }>, failure: Failure): void {
  t.like(failure, { dockerfile: 'Dockerfile', firstLine: 4 })
  t.regex(failure.text, /RUN .* \(Dockerfile:4\)/)
}

test.serial('a step that ends by itself is named with its exit code', async (t) => {
  const { failure, report } = await fail(t, 'RUN echo plain failure; exit 7')
  t.is(failure.cause, Cause.CAUSE_STEP_FAILED)
  t.is(failure.exitCode, 7)
  t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_FAILED)
  isOfFirstStep(t, failure)
  t.regex(failure.text, /ended with exit code 7$/)
})

for (const [signal, exitCode] of [
  ['SIGTERM', 143],
  ['SIGKILL', 137],
  ['SIGSEGV', 139],
] as const) {
  test.serial(`a step that ${signal} ended is named with the signal`, async (t) => {
    const { failure } = await fail(t, `RUN sh -c 'kill -${signal.slice(3)} $$'; exit $?`)
    t.is(failure.cause, Cause.CAUSE_STEP_KILLED)
    t.is(failure.exitCode, exitCode)
    isOfFirstStep(t, failure)
    t.regex(failure.text, new RegExp(`was ended by ${signal} \\(exit code ${exitCode}\\)$`))
  })
}

for (const [how, ending] of [
  ['by its main process', ''],
  ['by a child, whose death it reports in its own way', ' || exit 2'],
] as const) {
  test.serial(`a step that runs out of memory is named so: ${how}`, async (t) => {
    const { controlGroup } = t.context.builder.daemon
    await using _limit = await limitMemory(controlGroup, 64 * 1024 * 1024)
    const { failure } = await fail(t, `RUN head -c 300000000 /dev/zero | tail${ending}`)
    t.is(failure.cause, Cause.CAUSE_OUT_OF_MEMORY)
    isOfFirstStep(t, failure)
    t.regex(failure.text, /ran out of memory: the kernel killed "tail", which held \d+ MB$/)
  })
}

test.serial('a full file system of the step is not taken for the disk of the node', async (t) => {
  const { failure } = await fail(
    t,
    'RUN --mount=type=tmpfs,target=/small,size=1000000 dd if=/dev/zero of=/small/file bs=1M count=5',
  )
  t.is(failure.cause, Cause.CAUSE_STEP_DISK_FULL)
  isOfFirstStep(t, failure)
  t.regex(failure.text, /had no space left on a file system .* the node's disk has \d+ [MG]B free/)
})

test.serial('what BuildKit itself refuses is told in its own words', async (t) => {
  const { failure } = await fail(t, 'COPY nowhere /x')
  t.is(failure.cause, Cause.CAUSE_REFUSED)
  t.regex(failure.text, /nowhere.* not found/)
})

async function startSleeper(builder: Builder, seconds: string) {
  const context = await createContext(`RUN sleep ${seconds}`)
  const { command, args, env } = builder.through.buildxCommand(clientKinds.buildx(context.path))
  const client = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const said = collect(client)
  const ended = once(client, 'exit').finally(() => context[Symbol.asyncDispose]())
  await builder.running(`sleep ${seconds}`)
  await sleeperAppears(seconds)
  return { client, said, ended }
}

function collect(client: ChildProcess): () => string {
  let text = ''
  client.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  return () => text
}

test.serial('a client that cancels, and one that is killed, are told apart', async (t) => {
  const { builder } = t.context
  const cancelling = await startSleeper(builder, '86395')
  cancelling.client.kill('SIGINT')
  await cancelling.ended
  const cancelled = await builder.settled()
  t.is(cancelled.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  t.is(cancelled.failure?.cause, Cause.CAUSE_CLIENT_CANCELLED)
  t.regex(
    cancelled.failure?.text ?? '',
    /client cancelled .* during .*sleep 86395 \(Dockerfile:4\)/,
  )

  const dying = await startSleeper(builder, '86394')
  dying.client.kill('SIGKILL')
  await dying.ended
  const lost = await builder.settled()
  t.is(lost.outcome, BuildOutcome.BUILD_OUTCOME_LOST)
  t.is(lost.failure?.cause, Cause.CAUSE_CLIENT_LOST)
  t.regex(lost.failure?.text ?? '', /went away without a word during .*sleep 86394/)
  await t.notThrowsAsync(sleeperEnds('86394'))
})

for (const kind of ['buildx', 'buildctl'] as const) {
  test.serial(
    `when BuildKit is killed, ${kind} is told so, and the next build works`,
    async (t) => {
      const { builder } = t.context
      const seconds = kind === 'buildx' ? '86393' : '86392'
      await using context = await createContext(`RUN sleep ${seconds}`)
      const building = builder.through[kind](clientKinds[kind](context.path))
      await builder.running(`sleep ${seconds}`)
      process.kill(await builder.daemon.pid(), 'SIGKILL')
      const result = await building
      t.not(result.exitCode, 0)
      t.log(result.stderr.trim().split('\n').at(-1))
      t.regex(
        result.stderr,
        new RegExp(`BuildKit of app/main has ended: killed by SIGKILL during .*sleep ${seconds}`),
      )
      t.notRegex(result.stderr, /closing transport|EOF|closed the stream|desc = transport/)
      const report = await builder.settled()
      t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_LOST)
      t.is(report.failure?.cause, Cause.CAUSE_BUILDKIT_DIED)
      t.is(report.failure?.firstLine, 4)
      t.is(report.keep, KeepOutcome.KEEP_OUTCOME_NOTHING)

      await using next = await createContext(`RUN echo after ${seconds}`)
      const built = await builder.through[kind](clientKinds[kind](next.path))
      t.is(built.exitCode, 0, built.stderr)
      await builder.settled()
    },
  )
}

/** Limits all steps of a daemon together, until disposed. */
async function limitMemory(controlGroup: string, bytes: number): Promise<AsyncDisposable> {
  const root = '/sys/fs/cgroup'
  const isUnified = await access(path.join(root, 'cgroup.controllers')).then(
    () => true,
    () => false,
  )
  const folder = path.join(root, isUnified ? '' : 'memory', controlGroup)
  const file = path.join(folder, isUnified ? 'memory.max' : 'memory.limit_in_bytes')
  const before = await readFile(file, 'utf8')
  await writeFile(file, String(bytes))
  return { [Symbol.asyncDispose]: () => writeFile(file, before) }
}
