/** Plans and builds side by side on one buildkitd, so that what was predicted meets what happened. */
import path from 'node:path'
import { findProgram } from '../../core/programs.ts'
import {
  askOperations,
  type ContentReader,
  contextFolders,
  createContentReader,
  keysOfDefinition,
  makePlan,
  type OperationsAnswer,
  type Plan,
  planFlags,
} from '../../plan/index.ts'
import {
  type BuildxClient,
  type CommandResult,
  createBuildxClient,
  createTemporaryFolder,
  runTimed,
  startBuildkitd,
} from '../harness/index.ts'
import { type DefinitionTap, startDefinitionTap } from './definition-tap.ts'

export interface Planner extends AsyncDisposable {
  readonly reader: ContentReader
  readonly buildx: BuildxClient
  operations(build: PlannedBuild): Promise<OperationsAnswer>
  /** @throws Error when the operations are not known. */
  plan(build: PlannedBuild): Promise<Plan>
  /** Builds, without a result, and joins BuildKit's progress with the keys of the definition that passed. */
  build(build: PlannedBuild, plan: Plan): Promise<RealBuild>
  /** The same by buildctl, which knows only folders. */
  buildByBuildctl(build: PlannedBuild, plan: Plan): Promise<RealBuild>
}

export interface PlannedBuild {
  /** A folder, or a URL. */
  readonly context: string
  readonly flags?: readonly Flag[]
}

export interface Flag {
  readonly name: string
  readonly value: string
}

export interface RealBuild {
  readonly result: CommandResult
  /** By key: what became of the step. Steps whose key the node could not make are left out. */
  readonly outcomes: ReadonlyMap<string, Outcome>
  readonly unknownSteps: number
}

/** `unseen`: BuildKit had no need to look at it. */
export type Outcome = 'hit' | 'ran' | 'unseen'

export async function startPlanner(): Promise<Planner> {
  await using cleanUp = new AsyncDisposableStack()
  const buildkitd = cleanUp.use(await startBuildkitd())
  const tap = cleanUp.use(await startDefinitionTap(buildkitd.address.replace('unix://', '')))
  const buildx = cleanUp.use(await createBuildxClient(tap.address))
  const state = cleanUp.use(await createTemporaryFolder('planner'))
  const reader = cleanUp.use(createContentReader({ cacheFolder: state.path }))
  const program = await findProgram('buildx')
  const buildctl = await findProgram('buildctl')
  const signal = AbortSignal.timeout(300_000)
  const owned = cleanUp.move()

  function operations({ context, flags = [] }: PlannedBuild) {
    const command = { program, env: buildx.env, folder: '/' }
    return askOperations(command, { flags: planFlags(flags), context }, { signal })
  }

  return {
    reader,
    buildx,
    operations,
    async plan(build) {
      const answer = await operations(build)
      if (answer.type !== 'graph') throw new Error(answer.message)
      const folders = contextFolders(build.flags ?? [], build.context, (text) =>
        path.isAbsolute(text) ? text : undefined,
      )
      const { plan } = await makePlan({ reader }, answer.graph, { folders, platform: '', signal })
      return plan
    },
    async build({ context, flags = [] }, plan) {
      tap.take()
      const result = await buildx.run([
        ...['build', '--progress', 'rawjson', '--provenance', 'false'],
        ...['--output', 'type=cacheonly'],
        ...flags.map(({ name, value }) => `--${name}=${value}`),
        context,
      ])
      return joined(result, progressOf(result.stderr), tap, plan)
    },
    async buildByBuildctl({ context, flags = [] }, plan) {
      tap.take()
      const result = await runTimed(buildctl, [
        ...['--addr', tap.address, 'build', '--progress', 'rawjson'],
        ...['--frontend', 'dockerfile.v0'],
        ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
        ...flags.flatMap(({ value }) => ['--opt', `build-arg:${value}`]),
      ])
      return joined(result, progressOf(result.stderr), tap, plan)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function joined(
  result: CommandResult,
  progress: ReadonlyMap<string, Outcome>,
  tap: DefinitionTap,
  plan: Plan,
): RealBuild {
  if (result.exitCode !== 0) throw new Error(`the build failed: ${result.stderr.slice(-2000)}`)
  const outcomes = new Map<string, Outcome>()
  let unknownSteps = 0
  for (const definition of tap.take()) {
    const keys = keysOfDefinition(definition, new Map(Object.entries(plan.contents)))
    unknownSteps += keys.unknownSteps
    for (const [vertexDigest, key] of keys.keys) {
      outcomes.set(key, progress.get(vertexDigest) ?? 'unseen')
    }
  }
  return { result, outcomes, unknownSteps }
}

/** Lines of `--progress rawjson`: client.SolveStatus of BuildKit. A hit may be told as none when it is pulled. */
function progressOf(stderr: string): Map<string, Outcome> {
  const outcomes = new Map<string, Outcome>()
  for (const line of stderr.split('\n')) {
    if (!line.startsWith('{')) continue
    const status = JSON.parse(line) as {
      vertexes?: { digest: string; cached?: boolean; started?: string }[]
    }
    for (const { digest, cached, started } of status.vertexes ?? []) {
      if (cached) outcomes.set(digest, 'hit')
      else if (started !== undefined && outcomes.get(digest) !== 'hit') outcomes.set(digest, 'ran')
    }
  }
  return outcomes
}
