/** buildctl and buildx do through the build proxy what they do without it. */
import { execFile, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import anyTest, { type TestFn } from 'ava'
import {
  BuildOutcome,
  KeepOutcome,
  type SolveReport,
  StepOutcome,
} from '../../proto/generated/hearth/v1/build.ts'
import { type CommandResult, createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import {
  type ClientKind,
  type ClientOptions,
  clientKinds,
  createContext,
  writeContext,
} from './context.ts'
import { isSleeping, sleeperAppears } from './sleepers.ts'

const test = anyTest as TestFn<{ builder: Builder }>
const run = promisify(execFile)

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

/** Builds, and waits until nothing of the build goes on, so that the next one is alone. */
async function build(
  builder: Builder,
  kind: ClientKind,
  context: string,
  options?: ClientOptions,
): Promise<CommandResult & { report: SolveReport }> {
  const result = await builder.through[kind](clientKinds[kind](context, options))
  return { ...result, report: await builder.settled() }
}

for (const kind of ['buildctl', 'buildx'] as const) {
  test.serial(`${kind} hands a secret to a step`, async (t) => {
    const { builder } = t.context
    await using context = await createContext(
      `RUN --mount=type=secret,id=word echo "${kind} knows $(cat /run/secrets/word)"`,
      { word: 'xyzzy' },
    )
    const flags = ['--secret', `id=word,src=${path.join(context.path, 'word')}`]
    const built = await build(builder, kind, context.path, { flags })
    t.is(built.exitCode, 0, built.stderr)
    t.regex(built.stderr, new RegExp(`${kind} knows xyzzy`))
  })

  test.serial(`${kind} forwards an SSH agent to a step`, async (t) => {
    const { builder } = t.context
    await using context = await createContext(
      `COPY agent-probe /agent-probe\nRUN --mount=type=ssh echo ${kind} && /agent-probe`,
    )
    const source = fileURLToPath(new URL('./agent-probe', import.meta.url))
    await run('go', ['build', '-o', path.join(context.path, 'agent-probe'), '.'], {
      cwd: source,
      env: { ...process.env, CGO_ENABLED: '0' },
    })
    const key = path.join(context.path, 'key.pem')
    const { privateKey } = generateKeyPairSync('ed25519')
    await writeFile(key, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    await chmod(key, 0o600)
    const built = await build(builder, kind, context.path, { flags: ['--ssh', `default=${key}`] })
    t.is(built.exitCode, 0, built.stderr)
    t.regex(built.stderr, /the agent holds 1 identities/)
  })

  test.serial(`${kind} fetches a result as a tar and as a folder`, async (t) => {
    const { builder } = t.context
    await using context = await createContext(
      `RUN echo made for ${kind} > /made\nFROM scratch\nCOPY --from=base /made /made`,
    )
    await using out = await createTemporaryFolder('out')
    const tar = path.join(out.path, 'result.tar')
    const folder = path.join(out.path, 'folder')
    const first = await build(builder, kind, context.path, { output: `type=tar,dest=${tar}` })
    t.is(first.exitCode, 0, first.stderr)
    t.is((await run('tar', ['-xOf', tar, 'made'])).stdout, `made for ${kind}\n`)
    const second = await build(builder, kind, context.path, { output: `type=local,dest=${folder}` })
    t.is(second.exitCode, 0, second.stderr)
    t.is(await readFile(path.join(folder, 'made'), 'utf8'), `made for ${kind}\n`)
  })

  test.serial(`${kind} builds with a named context`, async (t) => {
    const { builder } = t.context
    await using extra = await createTemporaryFolder('extra')
    await writeContext(extra.path, { file: `beside ${kind}` })
    await using context = await createContext('COPY --from=extra file /file\nRUN cat /file')
    const built = await build(builder, kind, context.path, { contexts: { extra: extra.path } })
    t.is(built.exitCode, 0, built.stderr)
    t.regex(built.stderr, new RegExp(`beside ${kind}`))
  })

  test.serial(
    `a step runs once for ${kind} and its shadow, and not at all the second time`,
    async (t) => {
      const { builder } = t.context
      const marker = `once for ${kind}`
      await using context = await createContext(`RUN echo ${marker}`)
      const first = await build(builder, kind, context.path)
      t.is(first.exitCode, 0, first.stderr)
      t.is(first.report.keep, KeepOutcome.KEEP_OUTCOME_KEPT, first.report.keepReason)
      t.is(await builder.runs(marker), 1)
      const second = await build(builder, kind, context.path)
      t.is(second.exitCode, 0, second.stderr)
      t.true(second.report.steps.every((step) => step.outcome === StepOutcome.STEP_OUTCOME_REUSED))
      t.is(await builder.runs(marker), 1)
    },
  )

  test.serial(`${kind} without cache runs every step exactly once more`, async (t) => {
    const { builder } = t.context
    const marker = `uncached for ${kind}`
    await using context = await createContext(
      `RUN --mount=type=cache,target=/kept,id=${kind} echo ${marker}; sleep 0.3; echo x >> /kept/count`,
    )
    t.is((await build(builder, kind, context.path)).exitCode, 0)
    const built = await build(builder, kind, context.path, { noCache: true })
    t.is(built.exitCode, 0, built.stderr)
    t.is(built.report.keep, KeepOutcome.KEEP_OUTCOME_KEPT)
    t.is(await builder.runs(marker), 2)
    // BuildKit empties the step's mounts when the cache is ignored; the shadow must not do so again.
    await writeContext(context.path, {
      Dockerfile: (await readFile(path.join(context.path, 'Dockerfile'), 'utf8')).replace(
        'echo x >>',
        'cat',
      ),
    })
    const looked = await build(builder, kind, context.path)
    t.regex(looked.stderr, /^#\d+ [\d.]+ x$/m)
  })

  test.serial(`a failing step runs once for ${kind}, and the report names it`, async (t) => {
    const { builder } = t.context
    const marker = `fails for ${kind}`
    await using context = await createContext(`RUN echo ${marker}; exit 7\nRUN echo never`)
    const built = await build(builder, kind, context.path)
    t.not(built.exitCode, 0)
    t.regex(built.stderr, /exit code: 7/)
    const { report } = built
    t.is(report.outcome, BuildOutcome.BUILD_OUTCOME_FAILED)
    t.like(
      report.steps.find((step) => step.name.includes(marker)),
      { outcome: StepOutcome.STEP_OUTCOME_FAILED, dockerfile: 'Dockerfile', firstLine: 4 },
    )
    t.is(report.steps.at(-1)?.outcome, StepOutcome.STEP_OUTCOME_NOT_REACHED)
    t.is(await builder.runs(marker), 1)
  })

  test.serial(`Ctrl-C ends ${kind}'s step within a second`, async (t) => {
    const { builder } = t.context
    const seconds = kind === 'buildx' ? '86399' : '86398'
    await using context = await createContext(`RUN sleep ${seconds}`)
    const { command, args, env } =
      kind === 'buildx'
        ? builder.through.buildxCommand(clientKinds.buildx(context.path))
        : {
            ...builder.through.buildctlCommand(clientKinds.buildctl(context.path)),
            env: process.env,
          }
    const client = spawn(command, args, { env, stdio: 'ignore' })
    const ended = once(client, 'exit')
    await builder.running(`sleep ${seconds}`)
    await sleeperAppears(seconds)
    client.kill('SIGINT')
    const askedMs = performance.now()
    while (await isSleeping(seconds)) await delay(10)
    const tookMs = performance.now() - askedMs
    t.log(`${Math.round(tookMs)} ms`)
    t.true(tookMs < 1_000)
    await ended
    t.is((await builder.settled()).outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
    t.is(await builder.runs(`sleep ${seconds}`), 1)
  })
}

test.serial('bake builds its targets side by side, each step once', async (t) => {
  const { builder } = t.context
  await using context = await createContext(
    ['FROM base AS one\nRUN echo baked one', 'FROM base AS two\nRUN echo baked two'].join('\n'),
    {
      'docker-bake.hcl': [
        'group "default" { targets = ["one", "two"] }',
        'target "one" { target = "one" }',
        'target "two" { target = "two" }',
      ].join('\n'),
    },
  )
  const before = builder.reports.length
  const baked = await builder.through.buildx(['bake', '--progress', 'plain'], { cwd: context.path })
  t.is(baked.exitCode, 0, baked.stderr)
  await builder.settled()
  await builder.settled()
  t.is(await builder.runs('baked one'), 1)
  t.is(await builder.runs('baked two'), 1)
  const refs = new Set(builder.reports.slice(before).map((report) => report.ref))
  t.is(refs.size, 2)
})

test.serial('the progress shows no line about our import', async (t) => {
  const { builder } = t.context
  await using context = await createContext('RUN echo quiet')
  const built = await build(builder, 'buildx', context.path)
  t.is(built.exitCode, 0, built.stderr)
  t.notRegex(built.stderr, /importing cache|hearth\.cache/)
})

test.serial('a client without a certificate gets nowhere', async (t) => {
  const { builder } = t.context
  const { command, args } = builder.through.buildctlCommand(['debug', 'workers'])
  const bare = args.filter((word, index) => {
    const hidden = /^--tls(cert|key)$/
    return !hidden.test(word) && !hidden.test(args[index - 1] ?? '')
  })
  const error = await t.throwsAsync(run(command, bare, { timeout: 30_000 }))
  t.regex(String(error), /certificate|tls|connection/i)
})
