/**
 * Images built through Hearth have the layers that the same sequence of builds has on a BuildKit without
 * it, whatever compression the sequence names, and keep them on a node that was refilled from its store.
 */
import { utimes } from 'node:fs/promises'
import path from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import {
  type Buildkitd,
  type BuildxClient,
  type CommandResult,
  createBuildxClient,
  fetchImage,
  startBuildkitd,
  startUpstreamRegistry,
  type UpstreamRegistry,
} from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { createContext, writeContext } from './context.ts'

interface Parts {
  builder: Builder
  stock: Buildkitd
  stockClient: BuildxClient
  upstream: UpstreamRegistry
}

const test = anyTest as TestFn<Parts>

test.before(async (t) => {
  t.context.upstream = await startUpstreamRegistry()
  t.context.builder = await startBuilder({ reach: [t.context.upstream.host] })
  t.context.stock = await startBuildkitd()
  t.context.stockClient = await createBuildxClient(t.context.stock.address)
})

test.after.always(async (t) => {
  const { builder, stock, stockClient, upstream } = t.context
  for (const part of [stockClient, stock, upstream, builder]) await part?.[Symbol.asyncDispose]()
})

type Build = (args: readonly string[]) => Promise<CommandResult>

/** Fixed times and no new folders, or two daemons could never make the same layer. */
const dockerfile = [
  'RUN echo tools > /tools && touch -d "2020-02-02 02:02:02" /tools',
  'FROM scratch AS middle',
  'COPY --from=base /bin/busybox /sh',
  'COPY --from=base /tools /tools',
  'COPY source /source',
  'RUN ["/sh", "-c", "cat /source > /made; touch -d \'2021-01-01 01:01:01\' /made"]',
  'FROM scratch',
  'COPY --from=middle /sh /sh',
  'COPY --from=middle /made /made',
  'COPY source /source',
].join('\n')

for (const compression of ['gzip', 'zstd', 'estargz']) {
  for (const rewritten of [false, true]) {
    const what = rewritten ? `${compression} with rewritten timestamps` : compression
    test.serial(
      `${what}: built, pushed, changed and pushed again, the layers are BuildKit's own`,
      async (t) => {
        const { builder, stockClient, upstream } = t.context
        await using context = await createContext(dockerfile)
        const through: Build = async (args) => {
          const built = await builder.through.buildx(['build', '--provenance', 'false', ...args])
          if (built.exitCode === 0) await builder.settled()
          return built
        }
        const straight: Build = (args) => stockClient.build(['--provenance', 'false', ...args])

        const options = (more: string): string[] => [
          ...(rewritten ? ['--build-arg', 'SOURCE_DATE_EPOCH=1600000000'] : []),
          '--output',
          [
            ...['type=image', `compression=${compression}`, 'oci-mediatypes=true'],
            ...(rewritten ? ['rewrite-timestamp=true'] : []),
            more,
          ].join(','),
          context.path,
        ]
        const push = async (build: Build, repository: string): Promise<string[]> => {
          await expectBuilt(build(options(`name=${upstream.host}/${repository}:x,push=true`)))
          return (await fetchImage(upstream.host, repository, 'x')).layers
        }
        /** Build, push, change, push: the layers of both pushes. */
        const sequence = async (build: Build, name: string): Promise<string[][]> => {
          await writeSource(context.path, `${what} first`)
          await expectBuilt(build(options('push=false')))
          const first = await push(build, `${name}-first`)
          await writeSource(context.path, `${what} second`)
          return [first, await push(build, `${name}-second`)]
        }

        const name = `${compression}-${rewritten}`
        const own = await sequence(through, `through-${name}`)
        t.deepEqual(own, await sequence(straight, `straight-${name}`))

        await builder.forgetBuildkit()
        t.deepEqual(await push(through, `refilled-${name}`), own[1])
        const outcomes = builder.reports.at(-1)?.steps.map((step) => step.outcome)
        t.deepEqual([...new Set(outcomes)], [StepOutcome.STEP_OUTCOME_REUSED])
      },
    )
  }
}

async function writeSource(folder: string, content: string): Promise<void> {
  await writeContext(folder, { source: content })
  const fixed = new Date('2022-02-02T02:02:02Z')
  for (const name of ['source', 'busybox']) await utimes(path.join(folder, name), fixed, fixed)
}

async function expectBuilt(building: Promise<CommandResult>): Promise<void> {
  const built = await building
  if (built.exitCode !== 0) throw new Error(built.stderr)
}
