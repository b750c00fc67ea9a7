/**
 * The plans of a build that is typed as for buildx: one for each platform it names. For `hearth plan`, and for
 * a build that wants to be routed by its content.
 */
import os from 'node:os'
import path from 'node:path'
import {
  askOperations,
  contextFolders,
  createContentReader,
  type HashCount,
  makePlan,
  type Plan,
  planFlags,
} from '../../plan/index.ts'
import type { BuildCommandLine } from '../build/command-line.ts'
import { isUrl } from '../build/project.ts'
import { stateFolder } from '../folders.ts'

export interface PlanRequest {
  readonly line: BuildCommandLine
  /** As "os/arch[/variant]"; empty: the builder's own. */
  readonly platforms: readonly string[]
  readonly buildx: {
    readonly program: string
    readonly env: NodeJS.ProcessEnv
    /** Relative paths are relative to it. */
    readonly folder: string
    /** The builder that is asked; undefined: the current one. */
    readonly builder: string | undefined
  }
}

export interface MadePlans {
  /** In the order of the platforms. */
  readonly plans: readonly Plan[]
  /** Of the files that the build reads. */
  readonly count: HashCount
}

/**
 * Never throws because something cannot be known: such a plan is partial.
 * @param env whose state folder remembers what files hold.
 * @throws HearthError `cancelled`
 */
export async function makePlans(
  request: PlanRequest,
  env: NodeJS.ProcessEnv,
  options: { signal: AbortSignal },
): Promise<MadePlans> {
  const { line, buildx } = request
  const platforms = request.platforms.length === 0 ? [''] : request.platforms
  const obstacle = obstacleOf(line)
  if (obstacle !== undefined) return { plans: platforms.map(unknownPlan(obstacle)), count: nothing }
  // Its thread starts while buildx is asked.
  await using reader = createContentReader({
    cacheFolder: path.join(stateFolder(env), 'plan', 'contents'),
  })
  const [context = '.'] = line.operands
  const builder = buildx.builder === undefined ? [] : [`--builder=${buildx.builder}`]
  const answer = await askOperations(
    buildx,
    { flags: [...builder, ...planFlags(line.flags)], context },
    options,
  )
  if (answer.type === 'unanswered') {
    return { plans: platforms.map(unknownPlan(answer.message)), count: nothing }
  }
  const folders = contextFolders(line.flags, context, (text) => localFolder(text, buildx.folder))
  const plans: Plan[] = []
  let first: HashCount | undefined
  for (const platform of platforms) {
    const made = await makePlan({ reader }, answer.graph, { folders, platform, ...options })
    plans.push(made.plan)
    first ??= made.count
  }
  return { plans, count: first ?? nothing }
}

const nothing: HashCount = { files: 0, filesRead: 0, bytesRead: 0 }

/** What can be read only once: the build needs it. */
function obstacleOf(line: BuildCommandLine): string | undefined {
  if (line.operands.includes('-')) return 'the context comes from standard input'
  const fromInput = line.flags.some(({ name, value }) => name === 'file' && value === '-')
  return fromInput ? 'the Dockerfile comes from standard input' : undefined
}

function unknownPlan(message: string): (platform: string) => Plan {
  return (platform) => ({
    platform,
    steps: [],
    partial: [{ type: 'no operations', message }],
    contents: {},
  })
}

/** Undefined for what is no folder of this machine. */
function localFolder(text: string, folder: string): string | undefined {
  if (isUrl(text) || /^(docker-image|oci-layout|target|image):/.test(text)) return undefined
  const home = text === '~' || text.startsWith('~/') ? os.homedir() + text.slice(1) : text
  return path.resolve(folder, home)
}
