/** A whole Hearth of real processes: `hearth up` in a folder of its own, driven by the `hearth` command. */
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { daemonNodeFlags } from '../../cli/daemon/node-flags.ts'
import { type Claims, claimsFolder, claimsOf } from './claims.ts'
import { type CommandResult, type RunOptions, runTimed } from './commands.ts'
import { type ManagedProcess, type ProcessStart, startProcess } from './processes.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

const launcher = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  '../../cli/launcher.cjs',
)

export interface Hearth extends AsyncDisposable {
  readonly dataFolder: string
  /** Runs `hearth ARGS` to its end, with `--data` for this one. */
  run(args: readonly string[], options?: HearthRunOptions): Promise<CommandResult>
  /** `hearth build`. Never throws for a build that fails. */
  build(args: readonly string[], options?: HearthRunOptions): Promise<HearthBuild>
  buildInfo(buildId: string): Promise<BuildInfo>
  /** Waits until the cache of a build is kept, or lost: nothing of it goes on in the background. */
  settled(buildId: string): Promise<BuildInfo>
  /** `unix:///…` of the running BuildKit that builds this project's main line. */
  buildkitAddress(project: string): Promise<string>
  /** Ends it in an orderly way; the data folder stays. */
  stop(): Promise<void>
  /** Ends it as a power cut would: by SIGKILL, with no word to anybody. */
  kill(): Promise<void>
  start(): Promise<void>
  /** Starts it and kills it this long after, however far it has come. */
  startAndKill(afterMs: number): Promise<void>
  /** While stopped: deletes what BuildKit itself keeps, and nothing of the cache store. */
  deleteBuildkitState(): Promise<void>
  /** What the daemons have logged. */
  log(): string
  /** Names of the bridges of its running daemons, which their control groups carry too. */
  bridges(): Promise<string[]>
  running(): boolean
  /** Of the process that holds coordinator and node. */
  pid(): number
}

type HearthRunOptions = Omit<RunOptions, 'env'>

export interface HearthBuild extends CommandResult {
  /** Undefined when the build was never placed. */
  buildId: string | undefined
}

/** The parts of `hearth build-info ID --json` that tests and measurements read. */
export interface BuildInfo {
  id: string
  outcome: string
  durationMs: number
  stepsReused: number
  stepsTotal: number
  savedMs: number
  solves: {
    outcome: string
    keep: string
    keepReason: string
    replayed: boolean
    error: string
    cacheBytesRead: number
    cacheBytesKept: number
    cacheBytesLinked: number
    steps: { name: string; outcome: string; durationMs: number; lastRanMs: number }[]
  }[]
}

const settleLimitMs = 5 * 60_000
const settleProbeMs = 100

/**
 * @param options.slots builds at once; absent: as the machine allows.
 * @param options.dataFolder made if absent, and left there afterwards; default: one in a temporary folder.
 * @param options.reach services on 127.0.0.1, as "host:port", that builds are to reach: an upstream registry's.
 */
export async function startHearth(
  options: { slots?: number; dataFolder?: string; reach?: readonly string[] } = {},
): Promise<Hearth> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('up'))
  const dataFolder = options.dataFolder ?? path.join(folder.path, 'data')
  const own = path.join(folder.path, 'home')
  await mkdir(own)
  // Nothing that the person who runs this has configured or logged in to.
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    XDG_CONFIG_HOME: path.join(own, 'config'),
    XDG_STATE_HOME: path.join(own, 'state'),
    HEARTH_CONFIG: path.join(own, 'config.json'),
    DOCKER_CONFIG: path.join(own, 'docker'),
    BUILDX_CONFIG: path.join(own, 'buildx'),
    HEARTH_DATA: dataFolder,
    HEARTH_REACH_LOOPBACK: (options.reach ?? []).map((host) => host.split(':')[1]).join(','),
  }
  for (const name of ['HEARTH_COORDINATOR', 'HEARTH_TOKEN', 'HEARTH_CA', 'HEARTH_PROJECT']) {
    delete env[name]
  }

  const slots = options.slots === undefined ? [] : ['--slots', `${options.slots}`]
  const up: ProcessStart = {
    command: process.execPath,
    args: [...daemonNodeFlags, launcher, 'up', '--foreground', '--json', '--port', '0', ...slots],
    env,
  }
  const startDaemons = (): Promise<ManagedProcess> =>
    startProcess({
      ...up,
      ready: (started) => /"state": ?"up"/.test(started.output()),
      readyWithinMs: 60_000,
    })
  let daemons = await startDaemons()
  let buildkitFolder: string | undefined
  cleanUp.defer(async () => {
    await daemons.stop({ limitMs: 60_000 })
  })

  const run: Hearth['run'] = (args, runOptions) =>
    runTimed(process.execPath, [launcher, ...args], { env, ...runOptions })

  const buildInfo: Hearth['buildInfo'] = async (buildId) => {
    const result = await run(['build-info', buildId, '--json'])
    if (result.exitCode !== 0) throw new Error(`no report of build ${buildId}: ${result.stderr}`)
    return JSON.parse(result.stdout) as BuildInfo
  }

  const owned = cleanUp.move()
  return {
    dataFolder,
    run,
    buildInfo,
    async build(args, buildOptions) {
      const result = await run(['build', '--json', '--progress', 'plain', ...args], buildOptions)
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
    async buildkitAddress(project) {
      const pool = await findPool(dataFolder)
      const bridge = pool?.daemons.find(({ scope }) => scope === `${project}/main`)?.bridge
      if (pool === undefined || bridge === undefined) {
        throw new Error(`no BuildKit of ${project} is running in ${dataFolder}`)
      }
      return `unix://${path.join(claimsFolder, pool.id, `${bridge}.sock`)}`
    },
    async stop() {
      buildkitFolder = (await findPool(dataFolder))?.folder ?? buildkitFolder
      await daemons.stop({ limitMs: 60_000 })
    },
    async kill() {
      await daemons.stop({ signal: 'SIGKILL' })
    },
    async start() {
      daemons = await startDaemons()
    },
    async startAndKill(afterMs) {
      daemons = await startProcess(up)
      await delay(afterMs)
      await daemons.stop({ signal: 'SIGKILL' })
    },
    async deleteBuildkitState() {
      if (daemons.running()) throw new Error('Hearth is still up')
      if (buildkitFolder === undefined) throw new Error('no BuildKit has run here')
      await rm(buildkitFolder, { recursive: true })
    },
    log: () => daemons.output(),
    async bridges() {
      return (await findPool(dataFolder))?.daemons.map(({ bridge }) => bridge) ?? []
    },
    running: () => daemons.running(),
    pid: () => daemons.pid,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Of the process that runs: what a killed one has left is swept before it says that it is up. */
async function findPool(dataFolder: string): Promise<Claims | undefined> {
  return (await claimsOf(dataFolder))[0]
}

function readBuildId(stdout: string): string | undefined {
  try {
    const { buildId } = JSON.parse(stdout) as { buildId?: unknown }
    return typeof buildId === 'string' ? buildId : undefined
  } catch {
    return undefined
  }
}
