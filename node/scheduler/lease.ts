/** One lease, from its grant to its end. The states are in index.ts. */
import { randomBytes } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import type { Scope } from '../../core/scope.ts'
import type { Clock } from './clock.ts'
import type { Lease } from './index.ts'

export interface ManagedLease extends Lease {
  /** Ends it now, whatever it does. */
  end(reason: HearthError): void
}

export function createLease(
  deps: { clock: Clock; onEnd: () => void },
  lease: { buildId: string; scope: Scope; connectMs: number; lingerMs: number },
): ManagedLease {
  const { clock } = deps
  const ended = new AbortController()
  const activities = new Set<symbol>()
  let released = false
  let timer: Disposable | undefined

  function end(reason: HearthError): void {
    if (ended.signal.aborted) return
    timer?.[Symbol.dispose]()
    ended.abort(reason)
    deps.onEnd()
  }

  function endAfter(delayMs: number, why: string): void {
    timer?.[Symbol.dispose]()
    timer = clock.after(delayMs, () => end(new HearthError('deadline', why)))
  }

  function rest(): void {
    if (ended.signal.aborted || activities.size > 0) return
    if (released) end(new HearthError('unavailable', 'the lease was given back'))
    else endAfter(lease.lingerMs, 'the build has been silent for too long and lost its slot')
  }

  const connectByMs = clock.nowMs() + lease.connectMs
  endAfter(lease.connectMs, `no client has connected within ${lease.connectMs / 1000} s`)

  return {
    id: randomBytes(12).toString('hex'),
    buildId: lease.buildId,
    scope: lease.scope,
    connectByMs,
    ended: ended.signal,
    end,

    begin(what) {
      if (ended.signal.aborted) {
        throw new HearthError('unavailable', 'the slot of this build has gone to another', {
          hint: 'start the build again',
          cause: ended.signal.reason,
        })
      }
      const activity = Symbol(what)
      activities.add(activity)
      timer?.[Symbol.dispose]()
      return {
        [Symbol.dispose]() {
          if (activities.delete(activity)) rest()
        },
      }
    },

    release() {
      released = true
      rest()
    },
  }
}
