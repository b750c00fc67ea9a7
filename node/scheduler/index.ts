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
 *
 * While there is a hold on a scope, or on all, its builds wait even if a slot is free, and are told why.
 */
import type { HearthError } from '../../core/errors.ts'
import type { Scope } from '../../core/scope.ts'

export interface Scheduler extends AsyncDisposable {
  /**
   * Waits for a slot. A build that already has a lease gets the same one again.
   * @param options.onQueued called with the place (1 is next) at once and whenever it or the reason changes;
   *   the reason is one line for people, empty when only a slot is waited for.
   * @throws HearthError `unavailable` while draining, `exhausted` when the queue is full or the node has no
   *   room for builds, `cancelled` when the signal fires first.
   */
  lease(
    request: { buildId: string; scope: Scope },
    options: { onQueued?: (position: number, reason: string) => void; signal: AbortSignal },
  ): Promise<Lease>

  /** The lease of a build, if it has one. */
  find(buildId: string): Lease | undefined

  load(): Load

  /** Leases that have not ended. */
  leases(): readonly Lease[]

  /** No new leases until its disposal. @param scope undefined: of all scopes. */
  hold(scope: Scope | undefined, reason: string): Hold

  /** Ends every lease now, with this as the reason of `ended`. Who waits goes on waiting. */
  stop(reason: HearthError): void

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

export interface Hold extends Disposable {
  /** There is no use in waiting: who waits because of it, and who comes from now on, is refused with this. */
  refuse(error: () => HearthError): void
}

export interface Load {
  readonly slots: number
  readonly slotsUsed: number
  readonly queued: number
  readonly draining: boolean
}

export { createScheduler, type SchedulerOptions } from './scheduler.ts'
export { slotsOfThisMachine } from './slots.ts'
