/**
 * Watches how much of the disk is free, and keeps builds from filling it:
 *
 *   open ──below the minimum──▶ held (who comes waits) ──room again──▶ open
 *    │                            │ nothing runs, nothing more can be freed
 *    │                            ▼
 *    │                          refusing (who comes is told so) ──room again──▶ open
 *    └──below the floor: running builds are stopped──▶ held
 */
import type { DiskSpace } from '../../core/disk.ts'
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { Hold, Scheduler } from '../scheduler/index.ts'
import type { DiskMarks } from './marks.ts'

export interface DiskGuard extends AsyncDisposable {
  readonly isShort: boolean
}

export interface DiskGuardOptions {
  readonly marks: DiskMarks
  /** How people find the disk: a folder on it. */
  readonly folder: string
  /** How often it is looked at while nothing happens; as often as needed otherwise. Default 5 s. */
  readonly restingMs?: number
}

const busyMs = 1_000
/** The nearest to the floor. */
const urgentMs = 25
/** Bytes a millisecond that we believe builds can write: twice what a good disk takes. */
const fastestBytes = 4_000_000
/** Between two tries to make room while the disk is short and nothing has changed. */
const retryMs = 30_000
/** How long daemons of builds that have ended are waited for: steps are killed, connections close. */
const comingMs = 15_000

export function createDiskGuard(
  deps: {
    scheduler: Scheduler
    space: () => Promise<DiskSpace>
    /** Frees what can be freed now, until there is comfort; resolves when there is nothing more to do. */
    makeRoom: () => Promise<void>
    /** Scopes whose state cannot shrink because builds use it. */
    inUse: () => number
    log: Logger
  },
  { marks, folder, restingMs = 5_000 }: DiskGuardOptions,
): DiskGuard {
  const { scheduler, log } = deps
  let hold: Hold | undefined
  let isRefusing = false
  let heldSinceMs = 0
  let working: Promise<void> | undefined
  let triedAtMs = Number.NEGATIVE_INFINITY
  let inUseThen = 0
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> = Promise.resolve()

  async function look(): Promise<void> {
    const { freeBytes } = await deps.space()
    const isBusy = scheduler.leases().length > 0
    if (freeBytes < marks.floor && isBusy) stopBuilds(freeBytes)
    if (freeBytes < marks.minimum) holdBack(freeBytes)
    else if (hold !== undefined) resume(freeBytes)
    if (freeBytes < marks.low) shrink()
    if (hold === undefined || working !== undefined) return
    if (!isBusy && isHopeless() && freeBytes < marks.minimum) refuse()
  }

  /** What was tried did not help, and nothing that could is about to come to rest. */
  function isHopeless(): boolean {
    const isComing = deps.inUse() > 0 && performance.now() - heldSinceMs < comingMs
    return triedAtMs > Number.NEGATIVE_INFINITY && !isComing
  }

  function stopBuilds(freeBytes: number): void {
    holdBack(freeBytes)
    const error = new HearthError(
      'exhausted',
      `the node's disk is nearly full: ${inMegabytes(freeBytes)} free in ${folder}, and builds are stopped ` +
        `below ${inMegabytes(marks.floor)}`,
      {
        hint: 'let the build write less, give the node a larger disk, or free space on it; "hearth cache usage" shows what the cache takes',
      },
    )
    log.error({ freeBytes, ...marks, builds: scheduler.leases().length }, 'builds are stopped')
    scheduler.stop(error)
    triedAtMs = Number.NEGATIVE_INFINITY
  }

  function holdBack(freeBytes: number): void {
    if (hold !== undefined) return
    const figures = `${inMegabytes(freeBytes)} free, builds begin at ${inMegabytes(marks.minimum)}`
    heldSinceMs = performance.now()
    hold = scheduler.hold(undefined, `the node makes room on its disk (${figures})`)
    triedAtMs = Number.NEGATIVE_INFINITY
    log.warn({ freeBytes, ...marks }, 'no new builds until there is room on the disk')
  }

  function resume(freeBytes: number): void {
    hold?.[Symbol.dispose]()
    hold = undefined
    isRefusing = false
    log.info({ freeBytes }, 'there is room on the disk again')
  }

  /** In the background; again when a scope has come to rest, or after a while. */
  function shrink(): void {
    const inUse = deps.inUse()
    const isNew = inUse < inUseThen || performance.now() - triedAtMs > retryMs
    inUseThen = inUse
    if (working !== undefined || !isNew) return
    working = deps
      .makeRoom()
      .catch((error) => log.error({ error }, 'could not make room on the disk'))
      .finally(() => {
        triedAtMs = performance.now()
        working = undefined
        soon(0)
      })
  }

  function refuse(): void {
    if (isRefusing) return
    isRefusing = true
    log.error({ ...marks }, 'builds are refused: nothing more of the caches can go')
    hold?.refuse(
      () =>
        new HearthError(
          'exhausted',
          `the node has no room for a build: less than ${inMegabytes(marks.minimum)} are free in ${folder}, ` +
            'and its caches cannot shrink any further',
          { hint: 'free space on the node, or give it a larger disk; it goes on by itself' },
        ),
    )
  }

  async function again(): Promise<void> {
    try {
      await look()
      soon(await pause())
    } catch (error) {
      log.error({ error }, 'could not see how full the disk is')
      soon(restingMs)
    }
  }

  /** The nearer to the floor, the sooner. */
  async function pause(): Promise<number> {
    if (scheduler.leases().length === 0) return hold === undefined ? restingMs : busyMs
    const { freeBytes } = await deps.space()
    const spareMs = (freeBytes - marks.floor) / fastestBytes
    return Math.max(urgentMs, Math.min(busyMs, spareMs))
  }

  function soon(afterMs: number): void {
    if (closed) return
    clearTimeout(timer)
    timer = setTimeout(() => {
      looking = looking.then(again)
    }, afterMs)
    timer.unref()
  }
  soon(0)

  return {
    get isShort() {
      return hold !== undefined
    },
    async [Symbol.asyncDispose]() {
      closed = true
      clearTimeout(timer)
      await looking
      await working
      hold?.[Symbol.dispose]()
    },
  }
}

/** As "hearth cache usage" and disks count. */
function inMegabytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}
