/** Keys are the same wherever and however they are made. */
import { cp, utimes } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { createContentReader, graphOfJson, makePlan, type Plan } from '../../plan/index.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { startBuilder } from '../proxy/builder.ts'
import { createContext } from '../proxy/context.ts'
import { startPlanner } from './planner.ts'

const dockerfile = [
  'ARG VERSION=1',
  'COPY go.mod /src/',
  'RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/t cat /src/go.mod > /deps',
  'COPY --chmod=755 --exclude=*.md . /src/',
  'COPY --link <<EOF /etc/motd',
  'hello $VERSION',
  'EOF',
  'RUN --mount=type=bind,source=tools,target=/tools --network=none cat /tools/x > /out',
  'WORKDIR /work',
  'FROM base AS last',
  'COPY --from=base /bin/busybox /copy',
].join('\n')

const files = {
  'go.mod': 'module a',
  'main.go': 'main',
  'readme.md': '1',
  'tools/x': '1',
  '.dockerignore': 'ignored\n',
}

test('keys are the same from buildx and from what passes a node, for buildx and buildctl', async (t) => {
  t.timeout(120_000)
  await using planner = await startPlanner()
  await using context = await createContext(dockerfile, files)
  const build = { context: context.path }
  const plan = await planner.plan(build)
  t.deepEqual(plan.partial, [])
  t.is(plan.steps.length, 9)

  const byBuildx = await planner.build(build, plan)
  t.deepEqual([...byBuildx.outcomes.keys()].sort(), keysOf(plan).sort())
  const byBuildctl = await planner.buildByBuildctl(build, plan)
  t.deepEqual([...byBuildctl.outcomes.keys()].sort(), keysOf(plan).sort())
  t.true([...byBuildctl.outcomes.values()].every((outcome) => outcome !== 'ran'))
  t.is(byBuildx.unknownSteps + byBuildctl.unknownSteps, 0)
})

test('keys are the same on another machine, in another folder, at another time', async (t) => {
  t.timeout(120_000)
  await using context = await createContext(dockerfile, files)
  await using elsewhere = await createTemporaryFolder('elsewhere')
  const copy = path.join(elsewhere.path, 'checkout')
  await cp(context.path, copy, { recursive: true })
  for (const file of Object.keys(files)) {
    await utimes(path.join(copy, file), new Date(2001, 1, 1), new Date(2001, 1, 1))
  }
  const plans: Plan[] = []
  for (const folder of [context.path, copy]) {
    // Its own BuildKit, session and memory of files.
    await using planner = await startPlanner()
    plans.push(await planner.plan({ context: folder }))
  }
  const [here, there] = plans.map(keysOf)
  t.deepEqual(here, there)
})

test('a node without a plan knows the steps that copy nothing, and says how many it does not', async (t) => {
  t.timeout(120_000)
  await using planner = await startPlanner()
  await using context = await createContext(
    'FROM scratch AS only\nWORKDIR /a\nFROM only\nCOPY go.mod /',
    files,
  )
  const plan = await planner.plan({ context: context.path })
  const seen = await planner.build({ context: context.path }, { ...plan, contents: {} })
  t.deepEqual([...seen.outcomes.keys()], [plan.steps[0]?.key])
  t.is(seen.unknownSteps, 1)
})

test("a node's report names operations as the plan does", async (t) => {
  t.timeout(120_000)
  await using builder = await startBuilder()
  await using state = await createTemporaryFolder('state')
  await using context = await createContext(dockerfile, files)
  await using reader = createContentReader({ cacheFolder: state.path })
  const call = ['--call', 'convertllb,format=json', '--progress', 'quiet']
  const printed = await builder.through.buildx(['build', ...call, context.path])
  t.is(printed.exitCode, 0, printed.stderr)
  const { plan } = await makePlan({ reader }, graphOfJson(printed.stdout), {
    folders: { context: context.path },
    platform: '',
    signal: AbortSignal.timeout(30_000),
  })
  const built = await builder.through.buildx(['build', '--progress', 'plain', context.path])
  t.is(built.exitCode, 0, built.stderr)
  const { steps } = await builder.settled()
  t.deepEqual(
    steps.map((step) => step.operationDigest).sort(),
    plan.steps.map((step) => step.operationDigest).sort(),
  )
})

test('a builder that plans for its own platform only makes the plan of another partial', async (t) => {
  t.timeout(120_000)
  await using planner = await startPlanner()
  await using context = await createContext('RUN echo 1')
  const answer = await planner.operations({
    context: context.path,
    flags: [{ name: 'platform', value: 'linux/s390x' }],
  })
  if (answer.type !== 'graph') throw new Error(answer.message)
  const { plan } = await makePlan({ reader: planner.reader }, answer.graph, {
    folders: { context: context.path },
    platform: 'linux/s390x',
    signal: AbortSignal.timeout(30_000),
  })
  t.like(plan.partial[0], { type: 'other platform', wanted: 'linux/s390x' })
})

test('what only the builder can know makes the plan partial, and never fails it', async (t) => {
  t.timeout(120_000)
  await using planner = await startPlanner()
  await using context = await createContext('ADD http://127.0.0.1:9/x /x\nCOPY gone /y\nRUN echo 1')
  const plan = await planner.plan({ context: context.path })
  t.deepEqual(plan.partial.map(({ type }) => type).sort(), ['missing path', 'remote source'])
  t.true(plan.steps.every(({ key }) => key !== undefined))

  await using broken = await createContext('FROM 127.0.0.1:9/private:1\nRUN echo 1')
  const answer = await planner.operations({ context: broken.path })
  t.is(answer.type, 'unanswered')
  t.regex(answer.type === 'unanswered' ? answer.message : '', /private:1/)
})

function keysOf(plan: Plan): string[] {
  return plan.steps.map(({ key }) => key ?? 'unknown')
}
