import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { writeRuncGuard } from './runc-guard.ts'
import { runCommand } from './system-command.ts'

const test = anyTest as TestFn<{ folder: string; guard: string }>

test.beforeEach(async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-guard-'))
  const guarded = { runc: '/bin/echo', controlGroup: 'hearth-hth0' }
  t.context = { folder, guard: await writeRuncGuard(path.join(folder, 'runc'), guarded) }
})

test.afterEach.always(async (t) => {
  await rm(t.context.folder, { recursive: true })
})

async function run(t: { context: { folder: string; guard: string } }, specification: object) {
  const { folder, guard } = t.context
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(specification))
  return runCommand(guard, ['--log', 'x', 'run', '--bundle', folder, 'id'])
}

const group = (cgroupsPath: string) => ({ linux: { cgroupsPath } })

test('a step in the group of its daemon runs, with its arguments as they were', async (t) => {
  const { exitCode, stdout } = await run(t, group('/hearth-hth0/buildkit/k3jx7h2q'))
  t.is(exitCode, 0)
  t.is(stdout.trim(), `--log x run --bundle ${t.context.folder} id`)
})

test('what starts no container passes', async (t) => {
  const { exitCode, stdout } = await runCommand(t.context.guard, ['kill', 'id', '9'])
  t.is(exitCode, 0)
  t.is(stdout.trim(), 'kill id 9')
})

for (const [what, specification] of [
  ['another group', group('/machine/buildkit/k3jx7h2q')],
  ['a group that begins like its own', group('/hearth-hth01/buildkit/k3jx7h2q')],
  ['a way out of its own', group('/hearth-hth0/buildkit/../../machine.slice:k3jx7h2q')],
  ['no group', {}],
  [
    'its own in words, and another group',
    {
      process: { args: ['"cgroupsPath":"/hearth-hth0/buildkit/k3jx7h2q"'] },
      ...group('/machine/k3jx7h2q'),
    },
  ],
] as const) {
  test(`a step that names ${what} is refused`, async (t) => {
    const { exitCode, stdout, stderr } = await run(t, specification)
    t.is(exitCode, 1)
    t.is(stdout, '')
    t.regex(stderr, /control group/)
  })
}
