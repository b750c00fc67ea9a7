/** The daemons of all scopes of one data folder. */
import { mkdir, realpath } from 'node:fs/promises'
import type { Server } from 'node:net'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import type { Logger } from '../../../core/log.ts'
import { readResolver } from '../../../core/name-servers.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import { type HangLimits, hangLimits } from './hang-watch.ts'
import type { DaemonPool } from './index.ts'
import { createLeaseLimits, type LeaseShare, shareOfThisMachine } from './lease-limits.ts'
import { claimMachine } from './machine-claims.ts'
import { createNetworkPolicies } from './network-policies.ts'
import { type DaemonPrograms, findDaemonPrograms } from './programs.ts'
import { createScopeDaemon, type ScopeDaemon } from './scope-daemon.ts'
import {
  contentFileIn,
  finishDeletions,
  listScopes,
  readLastUse,
  removeSetAside,
  scopeFolder,
} from './scope-folder.ts'
import { startDaemon } from './start-daemon.ts'
import { measureState } from './state-usage.ts'
import type { StepHearer } from './step-hearer.ts'

export interface DaemonPoolOptions {
  /** BuildKit's state goes to `<folder>/<project>/<line>/`. Nobody else may use the folder. */
  folder: string
  /**
   * Name and port under which daemons reach the loopback registry by plain HTTP. Each daemon has a listener of
   * its own for it, inside its network namespace; `serve` answers what comes there, until disposed.
   */
  registry: {
    host: string
    port: number
    serve(listener: Server): Disposable
    /** By host of another registry, as images name it: the path on this one where pulls ask first. Default none. */
    mirrors?: ReadonlyMap<string, string>
  }
  /** What the steps of a scope may use for each of its leases. Default: a whole machine of one slot. */
  perLease?: LeaseShare
  /** See DaemonPool.deny. Default none. */
  deny?: readonly string[]
  /** See DaemonPool.reach. Default none. */
  reach?: readonly number[]
  /** A daemon without handles is stopped after this long. Default 10 minutes. */
  idleStopMs?: number
  /** A new daemon must answer within this time. Default 30 s. */
  startLimitMs?: number
  /** A daemon that is told to stop is killed after this long. Default 5 s. */
  stopLimitMs?: number
  /** Called when nobody has used a scope's daemon for `restMs`: a time to look at its state. */
  onIdle?: (scope: Scope) => void
  /** Default 5 s. */
  restMs?: number
  /** Called when a scope's state was pruned to a size, deleted, or set aside for an empty one. */
  onStateLost?: (scope: Scope) => void
  /** A daemon's log is begun anew beyond this size, keeping the one before. Default 10 MiB. */
  logBytesMax?: number
  /** When a daemon that does not answer is taken to hang, and replaced. Default: see hang-watch.ts. */
  hang?: Partial<HangLimits>
  /** "os/arch" list that daemons offer. Default: what the machine can run. */
  platforms?: readonly string[]
  /** Hears of steps with cache mounts. Default: nobody does. */
  steps?: StepHearer
  /** Programs to use instead of those that are found. */
  programs?: Partial<DaemonPrograms>
  /** IPv4 range from which each daemon takes a /24. Default 10.192.0.0/10. */
  addresses?: string
  /** Where all Hearths of this machine meet. Default /run/hearth. */
  machineFolder?: string
}

/**
 * Opens a data folder: ends the daemons that an earlier life left running, and removes their networks.
 * @throws HearthError `environment` when the machine lacks something, or another Hearth uses the folder.
 */
export async function createDaemonPool(
  deps: { log: Logger },
  options: DaemonPoolOptions,
): Promise<DaemonPool> {
  const { log } = deps
  const programs = await findDaemonPrograms(options.programs)
  await mkdir(options.folder, { recursive: true, mode: 0o700 })
  // Two names of one folder must not make two pools of it.
  const folder = await realpath(options.folder)
  const policies = await createNetworkPolicies(
    { log, resolver: readResolver },
    { deny: options.deny ?? [], reach: options.reach ?? [] },
  )
  const limits = createLeaseLimits({ log }, options.perLease ?? shareOfThisMachine(1))
  const known = new Map<ScopeId, Scope>()
  for (const scope of await listScopes(folder)) known.set(scopeId(scope), scope)
  const claims = await claimMachine(
    { log },
    {
      folder,
      machineFolder: options.machineFolder ?? '/run/hearth',
      addresses: options.addresses ?? '10.192.0.0/10',
    },
  )
  const startOptions = {
    registry: options.registry,
    platforms: options.platforms,
    steps: options.steps,
    startLimitMs: options.startLimitMs ?? 30_000,
    stopLimitMs: options.stopLimitMs ?? 5_000,
    logBytesMax: options.logBytesMax ?? 10 * mib,
    hang: { ...hangLimits, ...options.hang },
  }
  const scopeOptions = {
    idleStopMs: options.idleStopMs ?? 10 * 60_000,
    restMs: options.restMs ?? 5_000,
    logBytesMax: startOptions.logBytesMax,
  }
  const daemons = new Map<ScopeId, ScopeDaemon>()
  let closed = false
  const deletions = finishDeletions(folder).catch((error) => {
    log.warn({ error }, 'could not finish deleting BuildKit state')
  })

  let walk: Promise<unknown> = Promise.resolve()
  /** One walk at a time: they take a disk's time, and nobody waits for them. */
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = walk.then(work, work)
    walk = result.catch(() => {})
    return result
  }

  function daemonOf(scope: Scope): ScopeDaemon {
    if (closed) throw new HearthError('unavailable', 'this node is stopping')
    const key = scopeId(scope)
    const found = daemons.get(key)
    if (found !== undefined) return found
    const place = scopeFolder(folder, scope)
    const created = createScopeDaemon(
      {
        scope,
        place,
        log,
        start: async ({ signal }) => {
          const daemon = await startDaemon(
            { claims, programs, policies, limits, log },
            scope,
            place,
            {
              ...startOptions,
              signal,
              onSetAside: () => options.onStateLost?.(scope),
            },
          )
          known.set(key, scope)
          return daemon
        },
        onIdle: () => options.onIdle?.(scope),
      },
      scopeOptions,
    )
    daemons.set(key, created)
    return created
  }

  return {
    async acquire(scope, { signal }) {
      const handle = await daemonOf(scope).acquire({ signal })
      // A machine may have moved to another network since its last build.
      await policies.refresh()
      return handle
    },

    contentFile(scope, digest) {
      return known.has(scopeId(scope))
        ? contentFileIn(scopeFolder(folder, scope), digest)
        : undefined
    },

    measure: (scope, { signal }) =>
      inTurn(() => measureState(scopeFolder(folder, scope), { signal })),

    isInUse: (scope) => daemons.get(scopeId(scope))?.inUse ?? false,

    lastUsedAtMs: async (scope) => (await readLastUse(scopeFolder(folder, scope))) ?? 0,

    async prune(scope, request) {
      const outcome = await daemonOf(scope).prune(request)
      if (outcome.type === 'pruned') options.onStateLost?.(scope)
      return outcome
    },

    removeSetAside: (scope, beforeMs) => removeSetAside(scopeFolder(folder, scope), beforeMs),

    async reset(scope) {
      const result = await daemonOf(scope).reset()
      known.delete(scopeId(scope))
      options.onStateLost?.(scope)
      return result
    },

    setLeases: (scope, leases) => limits.setLeases(scope, leases),
    deny: (destinations) => policies.deny(destinations),
    reach: (ports) => policies.reach(ports),

    scopes: () => [...known.values()],

    async [Symbol.asyncDispose]() {
      closed = true
      await Promise.all([...daemons.values()].map((daemon) => daemon[Symbol.asyncDispose]()))
      await Promise.all([deletions, walk])
      await claims[Symbol.asyncDispose]()
    },
  }
}
