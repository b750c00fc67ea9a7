/** The `hearth` command as tests use it: in a home of its own, against one coordinator. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type CommandResult, type RunOptions, runTimed } from './commands.ts'

export const launcher = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  '../../cli/launcher.cjs',
)

export interface HearthClient {
  /** Runs `hearth ARGS` to its end, with `--data` for this one. */
  run(args: readonly string[], options?: HearthRunOptions): Promise<CommandResult>
  /** `hearth build`. Never throws for a build that fails. */
  build(args: readonly string[], options?: HearthRunOptions): Promise<HearthBuild>
  buildInfo(buildId: string): Promise<BuildInfo>
  /** Waits until the cache of a build is kept, or lost: nothing of it goes on in the background. */
  settled(buildId: string): Promise<BuildInfo>
}

export type HearthRunOptions = Omit<RunOptions, 'env'>

export interface HearthBuild extends CommandResult {
  /** Undefined when the build was never placed. */
  buildId: string | undefined
}

/** The parts of `hearth build-info ID --json` that tests and measurements read. */
export interface BuildInfo {
  id: string
  outcome: string
  nodeIds: string[]
  durationMs: number
  stepsReused: number
  stepsTotal: number
  savedMs: number
  solves: {
    outcome: string
    durationMs: number
    keep: string
    keepReason: string
    replayed: boolean
    error: string
    cacheBytesRead: number
    cacheBytesKept: number
    cacheBytesLinked: number
    steps: {
      name: string
      outcome: string
      durationMs: number
      lastRanMs: number
      platform: string
    }[]
  }[]
}

const settleLimitMs = 5 * 60_000
const settleProbeMs = 100

/**
 * Nothing in it that the person who runs this has configured or logged in to.
 * @param home made.
 * @param options.reach services on 127.0.0.1, as "host:port", that builds are to reach.
 */
export async function hearthEnvironment(
  home: string,
  options: { dataFolder: string; reach: readonly string[] },
): Promise<NodeJS.ProcessEnv> {
  await mkdir(home)
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    XDG_CONFIG_HOME: path.join(home, 'config'),
    XDG_STATE_HOME: path.join(home, 'state'),
    HEARTH_CONFIG: path.join(home, 'config.json'),
    DOCKER_CONFIG: path.join(home, 'docker'),
    BUILDX_CONFIG: path.join(home, 'buildx'),
    HEARTH_DATA: options.dataFolder,
    HEARTH_REACH_LOOPBACK: options.reach.map((host) => host.split(':')[1]).join(','),
  }
  for (const name of ['HEARTH_COORDINATOR', 'HEARTH_TOKEN', 'HEARTH_CA', 'HEARTH_PROJECT']) {
    delete env[name]
  }
  return env
}

export function createHearthClient(env: NodeJS.ProcessEnv): HearthClient {
  const run: HearthClient['run'] = (args, options) =>
    runTimed(process.execPath, [launcher, ...args], { env, ...options })

  const buildInfo: HearthClient['buildInfo'] = async (buildId) => {
    const result = await run(['build-info', buildId, '--json'])
    if (result.exitCode !== 0) throw new Error(`no report of build ${buildId}: ${result.stderr}`)
    return JSON.parse(result.stdout) as BuildInfo
  }

  return {
    run,
    buildInfo,
    async build(args, options) {
      const result = await run(['build', '--json', '--progress', 'plain', ...args], options)
      return { ...result, buildId: readBuildId(result.stdout) }
    },
    async settled(buildId) {
      const deadlineMs = performance.now() + settleLimitMs
      for (;;) {
        const info = await buildInfo(buildId)
        const pending = info.solves.some((solve) => solve.keep === 'pending')
        if (info.solves.length > 0 && !pending) return info
        if (performance.now() > deadlineMs) throw new Error(`the cache of ${buildId} stays pending`)
        await delay(settleProbeMs)
      }
    },
  }
}

function readBuildId(stdout: string): string | undefined {
  try {
    const { buildId } = JSON.parse(stdout) as { buildId?: unknown }
    return typeof buildId === 'string' ? buildId : undefined
  } catch {
    return undefined
  }
}
