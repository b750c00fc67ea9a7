import { HearthError } from '../core/errors.ts'
import { makeScope } from '../core/scope.ts'
import type { LeaseEvent, LeaseQueued, LeaseRequest } from '../proto/generated/hearth/v1/node.ts'
import type { Lease, Scheduler } from './scheduler/index.ts'

/**
 * The place in the queue whenever it changes, then the grant. Left before the grant has been sent, it gives
 * the place, or the slot that nobody will hear of, up.
 */
export async function* leaseEvents(
  deps: { scheduler: Scheduler },
  request: LeaseRequest,
  options: { signal: AbortSignal },
): AsyncGenerator<LeaseEvent, void, void> {
  const { buildId, scope } = request
  if (buildId === '' || scope === undefined) {
    throw new HearthError('invalid-input', 'the request names no build or no scope')
  }
  const left = new AbortController()
  let queued: LeaseQueued | undefined
  let changed = Promise.withResolvers<void>()
  const waiting = deps.scheduler.lease(
    { buildId, scope: makeScope(scope.project, scope.line) },
    {
      onQueued(position, reason) {
        queued = { position, reason }
        changed.resolve()
      },
      signal: AbortSignal.any([options.signal, left.signal]),
    },
  )
  let sent = false
  try {
    for (;;) {
      const lease = await Promise.race([waiting, changed.promise])
      changed = Promise.withResolvers()
      if (lease !== undefined) {
        yield granted(lease)
        sent = true
        return
      }
      // Several changes while one was being sent are told as the last of them.
      if (queued !== undefined) yield { event: { $case: 'queued', value: queued } }
    }
  } finally {
    left.abort()
    if (!sent) waiting.then((lease) => lease.release()).catch(() => {})
  }
}

function granted(lease: Lease): LeaseEvent {
  const connectBy = new Date(lease.connectByMs)
  return { event: { $case: 'granted', value: { leaseId: lease.id, connectBy } } }
}
