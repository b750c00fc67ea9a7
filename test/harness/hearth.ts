/** A whole Hearth of real processes: `hearth up` in a folder of its own, driven by the `hearth` command. */
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { daemonNodeFlags } from '../../cli/daemon/node-flags.ts'
import { type Claims, claimsFolder, claimsOf } from './claims.ts'
import {
  createHearthClient,
  type HearthClient,
  hearthEnvironment,
  launcher,
} from './hearth-client.ts'
import { type ManagedProcess, type ProcessStart, startProcess } from './processes.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface Hearth extends HearthClient, AsyncDisposable {
  readonly dataFolder: string
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
  const env = await hearthEnvironment(path.join(folder.path, 'home'), {
    dataFolder,
    reach: options.reach ?? [],
  })

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

  const owned = cleanUp.move()
  return {
    dataFolder,
    ...createHearthClient(env),
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
