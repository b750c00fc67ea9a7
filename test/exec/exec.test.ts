/** `hearth exec` runs BuildKit clients of other makes on a node: real buildctl and buildx, real processes. */
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import anyTest, { type TestFn } from 'ava'
import { findProgram } from '../../core/programs.ts'
import {
  type CommandResult,
  createTemporaryFolder,
  type Hearth,
  startHearth,
} from '../harness/index.ts'
import { clientKinds, createContext } from '../proxy/context.ts'
import { isSleeping, sleeperAppears } from '../proxy/sleepers.ts'

const test = anyTest as TestFn<{ hearth: Hearth; buildctl: string; buildx: string }>

test.before(async (t) => {
  // One slot: whatever keeps it too long holds up the next test.
  t.context.hearth = await startHearth({ slots: 1 })
  t.context.buildctl = await findProgram('buildctl')
  t.context.buildx = await findProgram('buildx')
})

test.after.always(async (t) => {
  await t.context.hearth?.[Symbol.asyncDispose]()
})

const flags = ['--project', 'app', '--json', '--']

function documentOf(result: CommandResult) {
  return JSON.parse(result.stdout) as Record<string, unknown> & { buildId: string }
}

for (const kind of ['buildctl', 'buildx'] as const) {
  test.serial(`${kind} builds on the node, and finds its cache the next time`, async (t) => {
    const { hearth } = t.context
    await using context = await createContext(`RUN echo exec by ${kind}`)
    const command = [t.context[kind], ...clientKinds[kind](context.path)]
    const first = await hearth.run(['exec', ...flags, ...command])
    t.is(first.exitCode, 0, first.stderr)
    t.like(documentOf(first), {
      project: 'app',
      builder: 'placed',
      outcome: 'succeeded',
      exitCode: 0,
    })
    t.regex(first.stderr, /^hearth: built in .* steps reused/m)
    const info = await hearth.settled(documentOf(first).buildId)
    t.is(info.solves[0]?.keep, 'kept')
    const second = await hearth.run(['exec', ...flags, ...command])
    t.is(second.exitCode, 0, second.stderr)
    const { stepsReused, stepsTotal } = documentOf(second)
    t.is(stepsReused, stepsTotal)
    t.true(Number(stepsTotal) > 0)
    await hearth.settled(documentOf(second).buildId)
  })
}

test.serial(
  'one command may build as often as it likes, and keeps its slot meanwhile',
  async (t) => {
    const { hearth, buildctl } = t.context
    await using one = await createContext('RUN echo exec one')
    await using two = await createContext('RUN echo exec two')
    const line = (context: string) => [buildctl, ...clientKinds.buildctl(context)].join(' ')
    const script = `${line(one.path)} && sleep 1 && ${line(two.path)}`
    const result = await hearth.run(['exec', ...flags, 'sh', '-c', script])
    t.is(result.exitCode, 0, result.stderr)
    const info = await hearth.settled(documentOf(result).buildId)
    t.is(info.solves.length, 2)
  },
)

test.serial('the command’s exit code, output and failed step are passed on', async (t) => {
  const { hearth, buildctl } = t.context
  await using context = await createContext('RUN exit 9')
  const line = [buildctl, ...clientKinds.buildctl(context.path)].join(' ')
  const script = `echo to-output; ${line}; exit 42`
  const result = await hearth.run(['exec', '--project', 'app', '--', 'sh', '-c', script])
  t.is(result.exitCode, 42)
  t.is(result.stdout, 'to-output\n')
  t.regex(result.stderr, /^hearth: failed after/m)
  t.regex(result.stderr, /^hearth: .*RUN exit 9 \(Dockerfile:4\) ended with exit code 9/m)
})

test.serial('the endpoint is for its owner alone, for as long as the command runs', async (t) => {
  const { hearth } = t.context
  const script = [
    'file=$' + '{BUILDKIT_HOST#unix://}',
    'stat -c "%F %a" "$file" "$(dirname "$file")"',
    'echo "$file" "$BUILDX_BUILDER" "token:$HEARTH_TOKEN"',
  ].join('; ')
  const result = await hearth.run(['exec', '--project', 'app', 'sh', '-c', script])
  t.is(result.exitCode, 0, result.stderr)
  const [socket, folder, last = ''] = result.stdout.split('\n')
  t.is(socket, 'socket 600')
  t.is(folder, 'directory 700')
  t.regex(last, /^\/\S+\/buildkit\.sock hearth token:$/)
  await t.throwsAsync(readFile(last.split(' ')[0] ?? ''), { code: 'ENOENT' })
})

test.serial('Ctrl-C ends the command and its step', async (t) => {
  const { hearth, buildctl } = t.context
  await using context = await createContext('RUN sleep 86389')
  const interrupt = new AbortController()
  const command = [buildctl, ...clientKinds.buildctl(context.path)]
  const running = hearth.run(['exec', ...flags, ...command], { interrupt: interrupt.signal })
  await sleeperAppears('86389')
  interrupt.abort()
  const result = await running
  t.not(result.exitCode, 0)
  t.is(documentOf(result).outcome, 'cancelled')
  const limit = AbortSignal.timeout(10_000)
  while (await isSleeping('86389')) {
    limit.throwIfAborted()
    await delay(20)
  }
  const info = await hearth.settled(documentOf(result).buildId)
  t.is(info.outcome, 'cancelled')
})

test.serial('what is no program, and a command that is missing, open no build', async (t) => {
  const { hearth } = t.context
  await using folder = await createTemporaryFolder('nothing')
  const before = (await hearth.run(['builds', '--json'])).stdout
  const unknown = await hearth.run(['exec', '--', 'no-such-program'], { cwd: folder.path })
  t.is(unknown.exitCode, 6)
  t.regex(unknown.stderr, /^hearth: exec: there is no program "no-such-program"\n {2}/)
  t.is((await hearth.run(['exec'])).exitCode, 2)
  t.is((await hearth.run(['builds', '--json'])).stdout, before)
})

test.serial('the history keeps the program’s name and none of its arguments', async (t) => {
  const { hearth } = t.context
  const result = await hearth.run(['exec', ...flags, 'sh', '-c', 'true secret-word'])
  const info = await hearth.run(['build-info', documentOf(result).buildId])
  t.regex(info.stdout, /^command +exec sh …$/m)
  t.notRegex(info.stdout, /secret-word/)
})
