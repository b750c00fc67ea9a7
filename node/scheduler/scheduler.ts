/** Hands out the slots of this node. */
import { HearthError } from '../../core/errors.ts'
import { leaseConnectMs } from '../../core/limits.ts'
import type { Logger } from '../../core/log.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import { type Clock, systemClock } from './clock.ts'
import { serviceOrder } from './fair-queue.ts'
import { createHolds } from './holds.ts'
import type { Lease, Scheduler } from './index.ts'
import { createLease, type ManagedLease } from './lease.ts'

export interface SchedulerOptions {
  /** Leases at a time; see `slotsOfThisMachine`. */
  slots: number
  /** Builds that may wait at a time. Default 1,000. */
  queueMax?: number
  /** A client must connect within this time of the grant. Default 30 s. */
  connectMs?: number
  /** A lease without activity lasts this long, for clients that come back at once. Default 5 s. */
  lingerMs?: number
  /** Called with the number of leases of a scope whenever it has changed. */
  onLeases?: (scope: Scope, leases: number) => void
}

/** One build in the queue. Several connections may wait for the same one. */
interface QueuedBuild {
  readonly buildId: string
  readonly scope: Scope
  readonly project: string
  readonly waiters: Set<Waiter>
}

interface Waiter {
  /** What it was told last. */
  position: number
  reason: string
  onQueued: ((position: number, reason: string) => void) | undefined
  settle(outcome: Lease | HearthError): void
}

/** @param deps.clock default: the system's. */
export function createScheduler(
  deps: { log: Logger; clock?: Clock },
  options: SchedulerOptions,
): Scheduler {
  const { log } = deps
  const clock = deps.clock ?? systemClock
  const { slots } = options
  const queueMax = options.queueMax ?? 1_000
  const leases = new Map<string, ManagedLease>()
  const slotsInUse = new Map<string, number>()
  const lastGrant = new Map<string, number>()
  let grants = 0
  /** By arrival. */
  let queue: QueuedBuild[] = []
  let draining = false
  const drained = new Set<() => void>()
  const holds = createHolds({ onChange: serve })

  function tellLeases(scope: Scope): void {
    const key = scopeId(scope)
    const own = [...leases.values()].filter((lease) => scopeId(lease.scope) === key)
    options.onLeases?.(scope, own.length)
  }

  function grant(build: { buildId: string; scope: Scope }): ManagedLease {
    const { buildId, scope } = build
    const { project } = scope
    slotsInUse.set(project, (slotsInUse.get(project) ?? 0) + 1)
    lastGrant.set(project, ++grants)
    const lease = createLease(
      {
        clock,
        onEnd() {
          leases.delete(buildId)
          tellLeases(scope)
          const left = (slotsInUse.get(project) ?? 0) - 1
          if (left > 0) slotsInUse.set(project, left)
          else slotsInUse.delete(project)
          log.debug(
            { build: buildId, scope: scopeId(scope), reason: lease.ended.reason },
            'lease ended',
          )
          serve()
          if (leases.size === 0) for (const resolve of drained) resolve()
        },
      },
      {
        buildId,
        scope,
        connectMs: options.connectMs ?? leaseConnectMs,
        lingerMs: options.lingerMs ?? 5_000,
      },
    )
    leases.set(buildId, lease)
    tellLeases(scope)
    log.debug({ build: buildId, scope: scopeId(scope), slotsUsed: leases.size }, 'lease granted')
    return lease
  }

  /** Gives free slots to whoever is next, and tells the others where they are and why. */
  function serve(): void {
    dismiss(({ scope }) => holds.refusal(scope))
    const isHeld = ({ scope }: QueuedBuild): boolean => holds.reason(scope) !== ''
    const record = { slotsInUse, lastGrant }
    const open = queue.filter((build) => !isHeld(build))
    const order = serviceOrder(open, record)
    const served = order.slice(0, Math.max(0, slots - leases.size))
    const waiting = [...order.slice(served.length), ...serviceOrder(queue.filter(isHeld), record)]
    if (served.length > 0) queue = queue.filter((build) => !served.includes(build))
    for (const build of served) {
      const lease = grant(build)
      for (const waiter of build.waiters) waiter.settle(lease)
    }
    for (const [index, build] of waiting.entries()) tell(build, index + 1)
  }

  function tell({ scope, waiters }: QueuedBuild, position: number): void {
    const reason = holds.reason(scope)
    for (const waiter of waiters) {
      if (waiter.position === position && waiter.reason === reason) continue
      waiter.position = position
      waiter.reason = reason
      waiter.onQueued?.(position, reason)
    }
  }

  function wait(
    build: QueuedBuild,
    { onQueued, signal }: Parameters<Scheduler['lease']>[1],
  ): Promise<Lease> {
    const { promise, resolve, reject } = Promise.withResolvers<Lease>()
    const waiter: Waiter = {
      position: 0,
      reason: '',
      onQueued,
      settle(outcome) {
        signal.removeEventListener('abort', leave)
        build.waiters.delete(waiter)
        if (outcome instanceof HearthError) reject(outcome)
        else resolve(outcome)
      },
    }
    function leave(): void {
      waiter.settle(notWaiting())
      if (build.waiters.size > 0) return
      queue = queue.filter((other) => other !== build)
      serve()
    }
    signal.addEventListener('abort', leave, { once: true })
    build.waiters.add(waiter)
    serve()
    return promise
  }

  /** Takes those builds out of the queue for which there is an error. */
  function dismiss(errorFor: (build: QueuedBuild) => HearthError | undefined): void {
    const dismissed = queue.map((build) => ({ build, error: errorFor(build) }))
    queue = dismissed.filter(({ error }) => error === undefined).map(({ build }) => build)
    for (const { build, error } of dismissed) {
      if (error !== undefined) for (const waiter of build.waiters) waiter.settle(error)
    }
  }

  return {
    async lease({ buildId, scope }, waiting) {
      if (waiting.signal.aborted) throw notWaiting()
      const known = leases.get(buildId) ?? queue.find((build) => build.buildId === buildId)
      if (known !== undefined && scopeId(known.scope) !== scopeId(scope)) {
        throw new HearthError('forbidden', `build ${buildId} belongs to another scope`)
      }
      if (known !== undefined) return 'waiters' in known ? wait(known, waiting) : known
      if (draining) throw nodeDraining()
      const refusal = holds.refusal(scope)
      if (refusal !== undefined) throw refusal
      // Who waits goes first, and nobody but for a hold waits while a slot is free.
      if (leases.size < slots && holds.reason(scope) === '') return grant({ buildId, scope })
      if (queue.length >= queueMax) {
        throw new HearthError('exhausted', `${queueMax} builds wait for this node already`, {
          hint: 'try again later, or add a node',
        })
      }
      const build = { buildId, scope, project: scope.project, waiters: new Set<Waiter>() }
      queue.push(build)
      return wait(build, waiting)
    },

    find: (buildId) => leases.get(buildId),

    load: () => ({ slots, slotsUsed: leases.size, queued: queue.length, draining }),

    leases: () => [...leases.values()],

    hold: holds.add,

    stop(reason) {
      for (const lease of [...leases.values()]) lease.end(reason)
    },

    async drain({ signal }) {
      draining = true
      dismiss(nodeDraining)
      if (leases.size === 0) return
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const abort = (): void => reject(new HearthError('cancelled', 'no longer waiting for builds'))
      signal.addEventListener('abort', abort, { once: true })
      if (signal.aborted) abort()
      drained.add(resolve)
      try {
        await promise
      } finally {
        drained.delete(resolve)
        signal.removeEventListener('abort', abort)
      }
    },

    async [Symbol.asyncDispose]() {
      draining = true
      dismiss(nodeDraining)
      for (const lease of [...leases.values()]) lease.end(nodeDraining())
    },
  }
}

function notWaiting(): HearthError {
  return new HearthError('cancelled', 'the build no longer waits for a slot')
}

function nodeDraining(): HearthError {
  return new HearthError('unavailable', 'this node takes no new builds', {
    hint: 'it is about to stop; try again, another node or the next one will take it',
  })
}
