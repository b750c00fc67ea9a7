/** Puts the budget together: measurements, policies, room, and the guard of the free space. */
import { type DiskSpace, measureSpace } from '../../core/disk.ts'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { scopeId } from '../../core/scope.ts'
import type { DaemonPool } from '../buildkit-runner/daemon/index.ts'
import type { CacheStore } from '../cache-store/index.ts'
import type { Scheduler } from '../scheduler/index.ts'
import { createDiskGuard } from './guard.ts'
import type { CachesUsage, DiskBudget, ProjectUse } from './index.ts'
import { createPolicyKeeper } from './keep-policies.ts'
import { makeRoom } from './make-room.ts'
import { marksOf } from './marks.ts'
import { createMeasurements, type MeasuredScope } from './measure.ts'

export interface DiskBudgetOptions {
  /** The node's data folder: everything is on its disk. */
  folder: string
  /** What all caches together may take. Default: no limit but the disk. */
  bytesMax?: number | undefined
  /** Free disk below which there are no new leases. Default: see marks.ts. */
  freeBytesMin?: number | undefined
  /** How often policies are looked at by themselves. Default 10 minutes. */
  everyMs?: number
  /** For tests: a disk that is not there. Default: statfs(2) of the folder. */
  space?: () => Promise<DiskSpace>
}

/** How often a project that is never idle is looked at while builds run. */
const busyLookMs = 60_000
/** How often it is asked whether a scope that is held back has come to rest. */
const awaitMs = 500

/** The caches come down to this share of the node's limit once they exceed it. */
const limitShare = 0.9

export async function createDiskBudget(
  deps: { daemons: DaemonPool; store: CacheStore; scheduler: Scheduler; log: Logger },
  options: DiskBudgetOptions,
): Promise<DiskBudget> {
  const { daemons, store, scheduler, log } = deps
  const { folder, bytesMax = Number.POSITIVE_INFINITY } = options
  const space = options.space ?? (() => measureSpace(folder))
  const marks = marksOf((await space()).totalBytes, options.freeBytesMin)
  const measurements = createMeasurements(deps)
  const policies = createPolicyKeeper({ ...deps, measurements })
  const closing = new AbortController()
  const { signal } = closing

  let last: Promise<unknown> = Promise.resolve()
  /** What shrinks caches does so one after another. */
  function inLine<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = last.then(work)
    last = result.catch(() => {})
    return result
  }

  let isQueued = false
  function tend(): void {
    if (isQueued || signal.aborted) return
    isQueued = true
    inLine(async () => {
      isQueued = false
      await policies.run({ signal })
      if (Number.isFinite(bytesMax)) await keepLimit()
    }).catch((error) => {
      if (!signal.aborted) log.warn({ reason: describeError(error) }, 'could not look after caches')
    })
  }

  async function keepLimit(): Promise<void> {
    if ((await usage(signal)).totalBytes <= bytesMax) return
    const missing = async () => (await usage(signal)).totalBytes - bytesMax * limitShare
    await makeRoom({ ...deps, measurements }, { missing, folder, signal })
  }

  async function usage(until: AbortSignal): Promise<CachesUsage> {
    const scopes: MeasuredScope[] = []
    for (const scope of daemons.scopes()) {
      scopes.push(await measurements.scope(scope, { signal: until }))
    }
    const sum = (part: (scope: MeasuredScope) => number): number =>
      scopes.reduce((total, scope) => total + part(scope), 0)
    const storeBytes = await store.bytesOnDisk({ signal: until })
    const sharedBytes = sum((scope) => scope.sharedBytes)
    const setAsideBytes = sum((scope) => scope.setAsideBytes)
    const totalBytes = sum(({ bytes }) => bytes) + setAsideBytes + storeBytes - sharedBytes
    const { freeBytes } = await space()
    return {
      scopes: new Map(scopes.map((scope) => [scopeId(scope.scope), scope])),
      projects: projectsOf(scopes),
      snapshotBytes: sum(({ bytes, contentBytes }) => bytes - contentBytes),
      contentBytes: sum(({ contentBytes }) => contentBytes),
      storeBytes,
      sharedBytes,
      setAsideBytes,
      totalBytes,
      limitBytes: Math.min(bytesMax, totalBytes + Math.max(0, freeBytes - marks.low)),
      freeBytes,
      marks,
    }
  }

  function projectsOf(scopes: readonly MeasuredScope[]): ProjectUse[] {
    const names = new Set(scopes.map(({ scope }) => scope.project))
    for (const id of store.usage().scopes.keys()) names.add(id.slice(0, id.indexOf('/')))
    return [...names].sort().map((project) => {
      const states = scopes.filter(({ scope }) => scope.project === project)
      const stateBytes = states.reduce((total, { netBytes }) => total + netBytes, 0)
      return {
        project,
        bytes: store.projectBytes(project) + stateBytes,
        ...store.policyOf(project),
      }
    })
  }

  const guard = createDiskGuard(
    {
      scheduler,
      space,
      log,
      makeRoom: () =>
        inLine(async () => {
          await policies.run({ signal })
          const missing = async () => marks.comfort - (await space()).freeBytes
          await makeRoom({ ...deps, measurements }, { missing, folder, signal })
        }),
      inUse: () => daemons.scopes().filter((scope) => daemons.isInUse(scope)).length,
    },
    { marks, folder },
  )
  const timers = [
    setInterval(tend, options.everyMs ?? 10 * 60_000),
    setInterval(() => {
      if (scheduler.leases().length > 0) tend()
    }, busyLookMs),
    setInterval(() => {
      if (policies.isAwaited()) tend()
    }, awaitMs),
  ]
  for (const timer of timers) timer.unref()

  return {
    usage: ({ signal: until }) => usage(until),
    get isShort() {
      return guard.isShort
    },
    tend,
    async [Symbol.asyncDispose]() {
      closing.abort()
      for (const timer of timers) clearInterval(timer)
      await guard[Symbol.asyncDispose]()
      await last
      policies[Symbol.dispose]()
    },
  }
}
