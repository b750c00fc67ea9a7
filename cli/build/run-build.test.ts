import { access, readdir, readFile, stat } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../../core/errors.ts'
import { Build, BuildOutcome, Cause, Failure } from '../../proto/generated/hearth/v1/build.ts'
import { makeFakeBuildx, makeHome, runHearth, startHearthCommand } from '../command-fixture.ts'
import {
  endpoint,
  openReply,
  placement,
  queued,
  type Script,
  startScriptedCoordinator,
} from '../coordinator-fixture.ts'

async function arrange(
  t: ExecutionContext,
  options: {
    script?: Partial<Script>
    buildx?: Parameters<typeof makeFakeBuildx>[1]
  } = {},
) {
  const home = await makeHome(t)
  const buildx = await makeFakeBuildx(home, options.buildx)
  const coordinator = await startScriptedCoordinator(t, home, options.script)
  await home.write({ 'src/Dockerfile': 'FROM scratch\n', 'src/hearth.json': '{"project":"app"}' })
  const run = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    runHearth(t, home, args, { env: { ...buildx.env, ...env } })
  return { home, buildx, coordinator, run }
}

test.serial('a build opens, is placed, runs buildx on its node, and is finished', async (t) => {
  const { buildx, coordinator, run } = await arrange(t)
  const ended = await run(['build', '-t', 'app:dev', '--build-arg=A=secret', 'src'], {
    HEARTH_TOKEN: 'a-token',
    BUILDX_BUILDER: 'mine',
  })
  t.is(ended.code, 0)
  t.is(ended.stdout, 'to-output\n')
  t.regex(ended.stderr, /^hearth: built in \d\.\ds, 3 of 4 steps reused, 5\.0s saved\n/m)
  t.regex(ended.stderr, /^hearth: more with "hearth build-info b7k2"\n$/m)

  const [opened] = coordinator.opened
  t.is(opened?.project, 'app')
  t.is(opened?.command, 'build --tag app:dev --build-arg … src')
  t.is(coordinator.finished[0]?.buildId, 'b7k2')
  t.is(coordinator.finished[0]?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)

  const expected = ['build', '--builder', 'hearth', '-t', 'app:dev', '--build-arg=A=secret', 'src']
  t.deepEqual(await buildx.args(), expected)
  const environment = await buildx.environment()
  t.is(environment.HEARTH_TOKEN, undefined)
  t.is(environment.BUILDX_BUILDER, undefined)
})

test.serial(
  'buildx gets the placed endpoint and a key of its own, readable by nobody else, gone afterwards',
  async (t) => {
    const { buildx, run } = await arrange(t)
    t.is((await run(['build', 'src'])).code, 0)
    const group = JSON.parse(await buildx.privateFile('buildx/instances/hearth'))
    t.is(group.Driver, 'remote')
    t.is(group.Nodes[0].Endpoint, 'tcp://127.0.0.1:9')
    const options = group.Nodes[0].DriverOpts
    t.is(options.servername, 'n1.node.hearth.internal')
    t.regex(await buildx.privateFile('key.pem'), /^-----BEGIN PRIVATE KEY-----/)
    t.is(await buildx.privateFile('certificate0.pem'), 'the certificate for n1\n')
    t.regex(await buildx.privateFile('modes'), /^600 .*key\.pem$/m)
    await t.throwsAsync(access(path.dirname(options.key)), { code: 'ENOENT' })
  },
)

test.serial('the node id of the uploaded context stays the same from build to build', async (t) => {
  const { buildx, home, run } = await arrange(t)
  await run(['build', 'src'])
  const first = await buildx.privateFile('buildx/.buildNodeID')
  t.regex(first, /^[0-9a-f]{16}$/)
  await run(['build', 'src'])
  t.is(await buildx.privateFile('buildx/.buildNodeID'), first)
  await home.write({ '.docker/buildx/.buildNodeID': 'the users own' })
  await run(['build', 'src'])
  t.is(await buildx.privateFile('buildx/.buildNodeID'), 'the users own')
})

test.serial('several placements become one builder with a node each', async (t) => {
  const { buildx, coordinator, run } = await arrange(t, {
    script: {
      async *placeBuild() {
        yield placement('n1', 'linux/amd64')
        yield placement('n2', 'linux/arm64/v8', 'linux/arm/v7')
      },
    },
  })
  t.is((await run(['build', '--platform=linux/amd64,linux/arm64', 'src'])).code, 0)
  t.deepEqual(coordinator.opened[0]?.platforms, ['linux/amd64', 'linux/arm64'])
  const { Nodes } = JSON.parse(await buildx.privateFile('buildx/instances/hearth'))
  t.deepEqual(Nodes[0].Platforms, [{ os: 'linux', architecture: 'amd64' }])
  t.deepEqual(Nodes[1].Platforms, [
    { os: 'linux', architecture: 'arm64', variant: 'v8' },
    { os: 'linux', architecture: 'arm', variant: 'v7' },
  ])
  t.is(await buildx.privateFile('certificate1.pem'), 'the certificate for n2\n')
})

test.serial('a build that has to wait is told its place', async (t) => {
  const { promise: told, resolve: goOn } = Promise.withResolvers<void>()
  const { home, buildx } = await arrange(t, {
    script: {
      async *placeBuild() {
        yield queued(2)
        await told
        yield queued(1)
        yield placement('n1')
      },
    },
  })
  const running = startHearthCommand(t, home, ['build', 'src'], { env: buildx.env })
  await running.says(/waiting for a slot: 2nd in line\n/)
  goOn()
  const { code, stderr } = await running.ended
  t.is(code, 0)
  t.regex(stderr, /2nd in line\nhearth: waiting for a slot: 1st in line\n/)
})

test.serial(
  'a build that waits for more than a slot is told for what, once, and then its place',
  async (t) => {
    const { promise: told, resolve: goOn } = Promise.withResolvers<void>()
    const { home, buildx } = await arrange(t, {
      script: {
        async *placeBuild() {
          yield queued(2, 'the node makes room on its disk')
          await told
          yield queued(1, 'the node makes room on its disk')
          yield queued(1)
          yield placement('n1')
        },
      },
    })
    const running = startHearthCommand(t, home, ['build', 'src'], { env: buildx.env })
    await running.says(/hearth: waiting: the node makes room on its disk\n/)
    goOn()
    const { code, stderr } = await running.ended
    t.is(code, 0)
    t.is(stderr.match(/makes room/g)?.length, 1)
    t.regex(stderr, /disk\nhearth: waiting for a slot: 1st in line\n/)
  },
)

test.serial('a build that gets its slot at once hears nothing of a queue', async (t) => {
  const { run } = await arrange(t, {
    script: {
      async *placeBuild() {
        yield queued(1)
        yield placement('n1')
      },
    },
  })
  t.notRegex((await run(['build', 'src'])).stderr, /waiting/)
})

test.serial('the exit code is buildx’s, and the coordinator learns of the failure', async (t) => {
  const { coordinator, run } = await arrange(t, { buildx: { exitCode: 102 } })
  const { code, stderr } = await run(['build', 'src'])
  t.is(code, 102)
  t.regex(stderr, /hearth: failed after/)
  t.is(coordinator.finished[0]?.outcome, BuildOutcome.BUILD_OUTCOME_FAILED)
})

function failing(failure: Partial<Failure>): Partial<Script> {
  return {
    finishBuild: async () => ({
      build: Build.fromPartial({ id: 'b7k2', failure: Failure.fromPartial(failure) }),
    }),
  }
}

test.serial('a build that failed says why and what to do, in one line', async (t) => {
  const { run } = await arrange(t, {
    buildx: { exitCode: 1 },
    script: failing({
      cause: Cause.CAUSE_OUT_OF_MEMORY,
      text: '[2/3] RUN make (Dockerfile:7) ran out of memory',
      advice: 'let it do less at a time',
      firstLine: 7,
    }),
  })
  const { stdout, stderr } = await run(['build', '--json', 'src'])
  t.regex(
    stderr,
    /^hearth: failed after .*\nhearth: \[2\/3\] RUN make \(Dockerfile:7\) ran out of memory; let it do less at a time\nhearth: more with/m,
  )
  t.like(JSON.parse(stdout).failure, { cause: 'out of memory', firstLine: 7 })
})

test.serial('what buildx has said already is not said again', async (t) => {
  const { run } = await arrange(t, {
    buildx: { exitCode: 1 },
    script: failing({ cause: Cause.CAUSE_REFUSED, text: 'no such file' }),
  })
  t.notRegex((await run(['build', 'src'])).stderr, /no such file/)
})

test.serial('a node that went away during the build is named', async (t) => {
  const closed = net.createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const { port } = closed.address() as net.AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  const { run } = await arrange(t, {
    buildx: { exitCode: 1 },
    script: {
      async *placeBuild() {
        const at = endpoint('n1', `127.0.0.1:${port}`)
        const value = { endpoint: at, platforms: [], reason: '' }
        yield { event: { $case: 'placement', value } }
      },
      finishBuild: async () => {
        throw new HearthError('unavailable', 'gone as well')
      },
    },
  })
  const { stderr } = await run(['build', 'src'])
  t.regex(
    stderr,
    new RegExp(`the node at 127\\.0\\.0\\.1:${port} does not answer any more; build again`),
  )
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test.serial(`${signal} reaches buildx once, and its end is waited for`, async (t) => {
    const { home, buildx, coordinator } = await arrange(t, { buildx: { untilSignal: true } })
    const running = startHearthCommand(t, home, ['build', 'src'], { env: buildx.env })
    await running.says(/waiting/)
    running.kill(signal)
    const { code, stderr } = await running.ended
    t.is(code, 130)
    t.deepEqual(await buildx.signals(), [signal.slice(3)])
    t.regex(stderr, /hearth: cancelled after/)
    t.is(coordinator.finished[0]?.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  })
}

test.serial('Ctrl-C while waiting for a slot gives the place up', async (t) => {
  const { home, buildx, coordinator } = await arrange(t, {
    script: {
      async *placeBuild(_, signal) {
        yield queued(7)
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
      },
    },
  })
  const running = startHearthCommand(t, home, ['build', 'src'], { env: buildx.env })
  await running.says(/7th in line/)
  running.kill('SIGINT')
  t.is((await running.ended).code, 130)
  t.is(coordinator.finished[0]?.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  await t.throwsAsync(buildx.args(), { code: 'ENOENT' })
})

test.serial(
  '--json gives one document, and what buildx prints goes to standard error',
  async (t) => {
    const { run } = await arrange(t)
    const { stdout, stderr } = await run(['build', '--json', 'src'])
    const { durationMs, ...document } = JSON.parse(stdout)
    t.true(durationMs > 0)
    t.deepEqual(document, {
      buildId: 'b7k2',
      project: 'app',
      builder: 'placed',
      outcome: 'succeeded',
      exitCode: 0,
      stepsReused: 3,
      stepsTotal: 4,
      savedMs: 5000,
      nodeIds: ['n1'],
      failure: null,
    })
    t.regex(stderr, /to-output/)
  },
)

test.serial('a silenced build has no summary', async (t) => {
  const { run } = await arrange(t)
  for (const flag of ['-q', '--quiet', '--progress=quiet']) {
    t.deepEqual(await run(['build', flag, 'src']), { code: 0, stdout: 'to-output\n', stderr: '' })
  }
})

test.serial(
  'a missing report costs the summary its numbers, not the build its success',
  async (t) => {
    const { run } = await arrange(t, {
      script: {
        finishBuild: async () => {
          throw new HearthError('internal', 'no')
        },
      },
    })
    const { code, stderr } = await run(['build', 'src'])
    t.is(code, 0)
    t.regex(stderr, /^hearth: built in \d\.\ds\n$/)
  },
)

test.serial('a coordinator that refuses fails the build before it starts', async (t) => {
  const { buildx, run } = await arrange(t, {
    script: {
      openBuild: async () => {
        throw new HearthError('not-found', 'there is no project "app"', { hint: 'create it' })
      },
    },
  })
  const ended = await run(['build', '--json', 'src'])
  t.is(ended.code, 6)
  t.is(ended.stderr, 'hearth: there is no project "app"\n  create it\n')
  t.deepEqual(JSON.parse(ended.stdout), {
    error: { code: 'not-found', message: 'there is no project "app"', hint: 'create it' },
  })
  await t.throwsAsync(buildx.args(), { code: 'ENOENT' })
})

test.serial('a project that was only guessed gives way to the one of the token', async (t) => {
  const { home, coordinator, run } = await arrange(t, {
    script: {
      openBuild: async (request) => {
        if (request.project !== '') throw new HearthError('forbidden', 'not for that one')
        return { ...openReply, scope: { project: 'tokens-own', line: 'main' } }
      },
    },
  })
  await home.write({ 'other/Dockerfile': '' })
  const { code, stdout } = await run(['build', '--json', 'other'])
  t.is(code, 0)
  t.is(JSON.parse(stdout).project, 'tokens-own')
  t.deepEqual(
    coordinator.opened.map((request) => request.project),
    ['other', ''],
  )
  t.is((await run(['build', 'src'])).code, 5)
})

test.serial('while the coordinator is away the last known node builds', async (t) => {
  const node = net.createServer((socket) => socket.destroy())
  await new Promise<void>((resolve) => node.listen(0, '127.0.0.1', resolve))
  t.teardown(() => node.close())
  const address = `127.0.0.1:${(node.address() as net.AddressInfo).port}`
  const { home, buildx, coordinator, run } = await arrange(t, {
    script: {
      openBuild: async () => ({ ...openReply, standby: { endpoints: [endpoint('n1', address)] } }),
    },
  })
  t.is((await run(['build', 'src'])).code, 0)
  const key = await buildx.privateFile('key.pem')
  const folder = path.join(home.folder, '.local/state/hearth/standby')
  const [kept = ''] = await readdir(folder)
  t.regex(kept, /^app-[0-9a-f]{12}\.json$/)
  t.is((await stat(path.join(folder, kept))).mode & 0o777, 0o600)
  t.is(JSON.parse(await readFile(path.join(folder, kept), 'utf8')).privateKeyPem, key)

  await coordinator.stop()
  const { code, stdout, stderr } = await run(['build', '--json', 'src'])
  t.is(code, 0)
  t.regex(
    stderr,
    /^hearth: cannot reach the coordinator at .*ECONNREFUSED.*\n {2}building on the last known node instead: n1\n/,
  )
  t.like(JSON.parse(stdout), { builder: 'standby', buildId: null, stepsTotal: null })
  t.is(await buildx.privateFile('key.pem'), key)
  t.is(
    JSON.parse(await buildx.privateFile('buildx/instances/hearth')).Nodes[0].Endpoint,
    `tcp://${address}`,
  )
})

test.serial(
  'without coordinator and nodes this machine’s own builder builds, in the user’s own configuration',
  async (t) => {
    const builders = '{"Name":"default","Driver":"docker","Current":true,"Nodes":[]}\n'
    const { buildx, coordinator, run } = await arrange(t, { buildx: { builders } })
    await coordinator.stop()
    const { code, stderr } = await run(['build', '--load', 'src'])
    t.is(code, 0)
    t.regex(stderr, /building on this machine's own builder "default" \(docker\) instead/)
    t.deepEqual(await buildx.args(), ['build', '--load', 'src'])
    t.is((await buildx.environment()).BUILDX_CONFIG, undefined)
  },
)

test.serial('what the coordinator itself has none of is told in its own words', async (t) => {
  const { run } = await arrange(t, {
    script: {
      openBuild: async () => {
        throw new HearthError('unavailable', 'no node is online')
      },
    },
  })
  const { code, stderr } = await run(['build', 'src'])
  t.is(code, 4)
  t.regex(stderr, /^hearth: no node is online\n/)
})

test.serial('with nowhere to build it says so, and what to do', async (t) => {
  const builders = '{"Name":"default","Driver":"","Current":true,"Err":"no docker"}\n'
  const { coordinator, run } = await arrange(t, { buildx: { builders } })
  await coordinator.stop()
  const { code, stderr } = await run(['build', 'src'])
  t.is(code, 4)
  t.regex(stderr, /nothing was built\n {2}start the coordinator/)
})

const refused = test.macro({
  exec: async (t: ExecutionContext, args: readonly string[], code: number, said: RegExp) => {
    const { buildx, coordinator, run } = await arrange(t)
    const ended = await run(args)
    t.is(ended.code, code)
    t.regex(ended.stderr, said)
    t.is(ended.stderr.split('\n').length, 3)
    t.deepEqual(coordinator.opened, [])
    await t.throwsAsync(buildx.args(), { code: 'ENOENT' })
  },
  title: (_, args: readonly string[]) =>
    `"hearth ${args.join(' ')}" is refused before a build is opened`,
})

test.serial(refused, ['build'], 2, /^hearth: build needs a context\n {2}name a folder/)
test.serial(refused, ['build', 'src', 'more'], 2, /takes one context, not 2/)
test.serial(refused, ['build', 'nowhere'], 6, /the context .*\/nowhere does not exist\n {2}/)
test.serial(refused, ['build', '.'], 6, /there is no Dockerfile in .*\n {2}name it with -f/)
test.serial(refused, ['build', '-f', 'x', 'src'], 6, /the Dockerfile .*\/x does not exist\n/)
test.serial(
  refused,
  ['build', '--plattform', 'src'],
  2,
  /unknown flag --plattform\n {2}did you mean --platform\?/,
)
test.serial(refused, ['build', '--builder', 'x', 'src'], 2, /chooses the builder itself/)
test.serial(refused, ['build', '--json', '-o', '-', 'src'], 2, /both use standard output/)

test.serial('a flag that only a newer buildx knows passes', async (t) => {
  const { buildx, run } = await arrange(t)
  t.is((await run(['build', '--newer=1', 'src'])).code, 0)
  t.true((await buildx.args()).includes('--newer=1'))
})

test.serial(
  'a bake goes the same way, and what only asks the bake file needs no node',
  async (t) => {
    const { buildx, coordinator, run } = await arrange(t)
    t.is((await run(['bake', '-f', 'x.hcl', '--set', '*.platform=linux/arm64', 'app'])).code, 0)
    t.deepEqual(coordinator.opened[0]?.platforms, ['linux/arm64'])
    t.is(coordinator.opened[0]?.command, 'bake --file x.hcl --set … app')
    t.is((await run(['bake', '--print'])).code, 0)
    t.is(coordinator.opened.length, 1)
    t.deepEqual(await buildx.args(), ['bake', '--print'])
  },
)

test.serial('help tells Hearth’s own flags before buildx’s', async (t) => {
  const { coordinator, run } = await arrange(t)
  const { code, stdout } = await run(['build', '--help'])
  t.is(code, 0)
  t.regex(stdout, /^hearth build: .*\n(.*\n)* +--project NAME (.*\n)* +-n, --newer string/)
  t.is(coordinator.opened.length, 0)
})

test.serial('a malformed hearth.json is one line with file and line', async (t) => {
  const { home, run } = await arrange(t)
  await home.write({ 'src/hearth.json': '{\n  "projet": "app"\n}' })
  const { code, stderr } = await run(['build', 'src'])
  t.is(code, 2)
  t.regex(
    stderr,
    /^hearth: .*\/src\/hearth\.json:2: unknown key "projet"\n {2}did you mean "project"\?\n$/,
  )
})
