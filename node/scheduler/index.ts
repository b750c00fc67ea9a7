/**
 * Slots and the queue for them. A lease is a slot granted to one build for a while:
 *
 *   queued ──grant──▶ granted ──first activity──▶ active ──last activity ends──▶ lingering ─┐
 *      │                 │                          ▲                             │        │
 *      │ signal aborted  │ no connect in time       └──────── new activity ───────┘        │
 *      ▼                 ▼                                                                 ▼
 *     gone             ended ◀──────────────── release, or linger time over ─────────────────
 *
 * The queue is fair between projects: the project with the fewest slots in use is served first, of two
 * alike the one whose latest grant is longer ago, in order of arrival inside a project.
 */
import type { Scope } from '../../core/scope.ts'

export interface Scheduler extends AsyncDisposable {
  /**
   * Waits for a slot. A build that already has a lease gets the same one again.
   * @param options.onQueued called with the place (1 is next) at once and whenever it changes.
   * @throws HearthError `unavailable` while draining, `exhausted` when the queue is full,
   *   `cancelled` when the signal fires first.
   */
  lease(
    request: { buildId: string; scope: Scope },
    options: { onQueued?: (position: number) => void; signal: AbortSignal },
  ): Promise<Lease>

  /** The lease of a build, if it has one. */
  find(buildId: string): Lease | undefined

  load(): Load

  /** No new leases from now on; resolves when the last has ended. */
  drain(options: { signal: AbortSignal }): Promise<void>
}

export interface Lease {
  readonly id: string
  readonly buildId: string
  readonly scope: Scope
  readonly connectByMs: number
  /** Something that needs the slot has begun (an open connection, a solve, a shadow build). */
  begin(what: string): Disposable
  /** Ends when its activities have ended; at once if there is none. */
  release(): void
  /** Aborted when the lease has ended. */
  readonly ended: AbortSignal
}

export interface Load {
  readonly slots: number
  readonly slotsUsed: number
  readonly queued: number
  readonly draining: boolean
}

export { createScheduler, type SchedulerOptions } from './scheduler.ts'
export { slotsOfThisMachine } from './slots.ts'
