import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
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

async function runTold(
  t: { context: { folder: string } },
  specification: object,
  args: readonly string[],
  answer: (url: string) => Promise<void> = async () => {},
) {
  const { folder } = t.context
  const socket = path.join(folder, 'steps.sock')
  const markers = path.join(folder, 'markers')
  await mkdir(markers)
  await writeFile(path.join(markers, 'known'), '')
  const heard: string[] = []
  const server = createServer((request, response) => {
    heard.push(request.url ?? '')
    void answer(request.url ?? '').then(() => response.writeHead(204).end())
  })
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  const guarded = { runc: '/bin/echo', controlGroup: 'hearth-hth0' }
  const steps = { socket, markers, answerMs: 2_000 }
  const guard = await writeRuncGuard(path.join(folder, 'runc'), { ...guarded, steps })
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(specification))
  const startedAtMs = performance.now()
  const result = await runCommand(guard, args)
  const tookMs = performance.now() - startedAtMs
  server.closeAllConnections()
  server.close()
  return { ...result, heard, tookMs, guard }
}

const ownGroup = group('/hearth-hth0/buildkit/k3jx7h2q')
const withMount = (source: string) => ({ ...ownGroup, mounts: [{ destination: '/c', source }] })
const runArgs = (folder: string) => ['--log', 'x', 'run', '--bundle', folder, '--keep', 'step1']

for (const source of [
  '/root/runc-overlayfs/snapshots/snapshots/12/fs',
  '/temporary/buildkit-mount123',
  '/root/runc-overlayfs/cachemounts/buildkit123',
]) {
  test(`a step that has ${source} is told of before it runs`, async (t) => {
    const args = runArgs(t.context.folder)
    const { exitCode, stdout, heard } = await runTold(t, withMount(source), args)
    t.is(exitCode, 0)
    t.is(stdout.trim(), args.join(' '))
    t.deepEqual(heard, ['/begin/step1'])
  })
}

test('a step without mounts of the state is told to nobody', async (t) => {
  const specification = {
    ...withMount('/root/runc-overlayfs/executor/hosts'),
    process: { args: ['"source":"/snapshots/snapshots/1/fs"'] },
  }
  const { exitCode, heard } = await runTold(t, specification, runArgs(t.context.folder))
  t.is(exitCode, 0)
  t.deepEqual(heard, [])
})

test('the end of a step is told where somebody waits for it, and everything else passes as it is', async (t) => {
  const told = await runTold(t, {}, ['--log', 'x', 'delete', 'known'])
  t.is(told.stdout.trim(), '--log x delete known')
  t.deepEqual(told.heard, ['/end/known'])
  for (const args of [
    ['delete', 'other'],
    ['state', 'known'],
    ['kill', 'other', '9'],
  ]) {
    const { exitCode, stdout } = await runCommand(told.guard, args)
    t.is(exitCode, 0)
    t.is(stdout.trim(), args.join(' '))
  }
})

test('a step that is killed is told of', async (t) => {
  const { stdout, heard } = await runTold(t, {}, ['kill', 'known', '9'])
  t.is(stdout.trim(), 'kill known 9')
  t.deepEqual(heard, ['/kill/known'])
})

test('a step runs when nobody answers', async (t) => {
  const args = runArgs(t.context.folder)
  const silent = () => new Promise<void>(() => {})
  const { exitCode, stdout, tookMs } = await runTold(
    t,
    withMount('/x/snapshots/1/fs'),
    args,
    silent,
  )
  t.is(exitCode, 0)
  t.is(stdout.trim(), args.join(' '))
  t.true(tookMs < 20_000)
})

test('a step runs when nobody is there to be told', async (t) => {
  const { folder } = t.context
  const steps = { socket: path.join(folder, 'nothing'), markers: folder, answerMs: 60_000 }
  const guarded = { runc: '/bin/echo', controlGroup: 'hearth-hth0', steps }
  const guard = await writeRuncGuard(path.join(folder, 'runc'), guarded)
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(withMount('/x/snapshots/1/fs')))
  const { exitCode, stdout } = await runCommand(guard, runArgs(folder))
  t.is(exitCode, 0)
  t.is(stdout.trim(), runArgs(folder).join(' '))
})

test('what it exits with, and the signals that it gets, are those of runc', async (t) => {
  const { folder } = t.context
  const runc = path.join(folder, 'fake')
  const guarded = { runc, controlGroup: 'hearth-hth0' }
  const guard = await writeRuncGuard(path.join(folder, 'runc'), guarded)
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(ownGroup))
  await writeFile(runc, '#!/bin/sh\nexit 37\n', { mode: 0o755 })
  t.is((await runCommand(guard, runArgs(folder))).exitCode, 37)
  await writeFile(
    runc,
    '#!/bin/sh\ntrap "exit 38" TERM\necho ready\nwhile :; do sleep 0.05; done\n',
  )
  const child = spawn(guard, runArgs(folder), { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGTERM')
  t.deepEqual(await once(child, 'exit'), [38, null])
})

test('a step without cache mounts waits for it less than 10 ms, at the median', async (t) => {
  const { folder, guard } = t.context
  const long = { env: Array.from({ length: 200 }, (_, index) => `NAME_${index}=${'x'.repeat(50)}`) }
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ process: long, ...ownGroup }))
  const median = async (command: string): Promise<number> => {
    const times: number[] = []
    for (let round = 0; round < 31; round += 1) {
      const startedAtMs = performance.now()
      await runCommand(command, runArgs(folder))
      times.push(performance.now() - startedAtMs)
    }
    return times.sort((a, b) => a - b)[15] ?? 0
  }
  const alone = await median('/bin/echo')
  const guarded = await median(guard)
  t.log(`${(guarded - alone).toFixed(1)} ms`)
  // On a quiet machine; a busy one is many times slower, with and without it.
  t.true(guarded - alone < Math.max(10, alone * 5), `${guarded} ms instead of ${alone} ms`)
})
