/**
 * Works on the queue for as long as the tier is open: some fragments at a time, oldest first, each until it is kept
 * or given up. While the object store rests, so does this.
 */
import { describeError, HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { scopeId } from '../../../core/scope.ts'
import { createBell } from '../../../mesh/adverts/bell.ts'
import type { Circuit } from './circuit.ts'
import { isOutage } from './failures.ts'
import type { KeepOutcome } from './keep-fragment.ts'
import type { Queue, Queued } from './queue.ts'

export interface WriteBehind extends AsyncDisposable {
  /** Something was added to the queue. */
  wake(): void
  /** Resolves or rejects when this one has left the queue. */
  whenDone(queued: Queued): Promise<void>
  /** Whoever waits for the one waits for the other from now on. */
  supersede(before: Queued, queued: Queued): void
  /** They left the queue without being kept. */
  drop(queued: readonly Queued[], error: HearthError): void
}

export interface WriteBehindOptions {
  fragmentsAtOnce: number
  retryMs: number
  retryMsMax: number
}

/** Errors that nobody has foreseen are not tried for ever. */
const triesMax = 6

export function createWriteBehind(
  deps: {
    queue: Queue
    circuits: readonly Circuit[]
    log: Logger
    keep: (queued: Queued, object: Buffer, options: { signal: AbortSignal }) => Promise<KeepOutcome>
  },
  options: WriteBehindOptions,
): WriteBehind {
  const { queue, circuits } = deps
  const closing = new AbortController()
  const { signal } = closing
  const bell = createBell()
  const running = new Map<number, Promise<void>>()
  const waiters = new Map<number, PromiseWithResolvers<void>>()
  const tries = new Map<number, { count: number; notBeforeMs: number }>()

  async function work(): Promise<void> {
    while (!signal.aborted) {
      for (const circuit of circuits) await circuit.whenClosed({ signal })
      const next = pick()
      if (next === undefined) {
        await bell.wait({ signal, limitMs: options.retryMsMax })
        continue
      }
      const one = handle(next)
        .catch((error: unknown) =>
          deps.log.error({ error }, 'the queue of the object store failed'),
        )
        .finally(() => {
          running.delete(next.order)
          bell.ring()
        })
      running.set(next.order, one)
    }
  }

  function pick(): Queued | undefined {
    if (running.size >= options.fragmentsAtOnce) return undefined
    const nowMs = performance.now()
    return queue
      .list()
      .find(({ order }) => !running.has(order) && (tries.get(order)?.notBeforeMs ?? 0) <= nowMs)
  }

  async function handle(queued: Queued): Promise<void> {
    const log = deps.log.child({ scope: scopeId(queued.scope), fragment: queued.digest })
    const object = queue.object(queued)
    // Gone from the queue in this moment.
    if (object === undefined) return
    let outcome: KeepOutcome
    try {
      outcome = await deps.keep(queued, object, { signal })
    } catch (error) {
      if (signal.aborted) return
      if (mayTryAgain(queued, error)) return
      outcome = { type: 'given up', code: 'internal', reason: describeError(error) }
    }
    tries.delete(queued.order)
    await queue.remove([queued])
    if (outcome.type === 'kept') {
      log.debug('a fragment and its blobs are in the object store')
      settle(queued, undefined)
    } else {
      log.warn({ reason: outcome.reason }, 'a fragment is not kept in the object store')
      settle(queued, new HearthError(outcome.code, outcome.reason))
    }
  }

  function mayTryAgain({ order }: Queued, error: unknown): boolean {
    const count = (tries.get(order)?.count ?? 0) + 1
    const isForeseen = error instanceof HearthError && error.code !== 'internal'
    if (isForeseen ? !isOutage(error) : count >= triesMax) return false
    const waitMs = Math.min(options.retryMsMax, options.retryMs * 2 ** Math.min(count, 20))
    const jitteredMs = waitMs * (0.5 + Math.random())
    tries.set(order, { count, notBeforeMs: performance.now() + jitteredMs })
    setTimeout(bell.ring, jitteredMs + 1).unref()
    return true
  }

  function settle({ order }: Queued, error: HearthError | undefined): void {
    const waiter = waiters.get(order)
    waiters.delete(order)
    if (error === undefined) waiter?.resolve()
    else waiter?.reject(error)
  }

  const worked = work().catch((error: unknown) => {
    if (!signal.aborted) deps.log.error({ error }, 'the queue of the object store stopped')
  })

  return {
    wake: () => bell.ring(),
    whenDone({ order }) {
      const waiter = waiters.get(order) ?? Promise.withResolvers<void>()
      // Whoever wants to know has it; after a restart that may be nobody.
      waiter.promise.catch(() => {})
      waiters.set(order, waiter)
      return waiter.promise
    },
    supersede(before, { order }) {
      const waiter = waiters.get(before.order)
      if (waiter === undefined) return
      waiters.delete(before.order)
      waiters.set(order, waiter)
    },
    drop(list, error) {
      for (const queued of list) {
        tries.delete(queued.order)
        settle(queued, error)
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort()
      await worked
      await Promise.all(running.values())
      const error = new HearthError('cancelled', 'this node stops before the upload is done', {
        hint: 'it goes on with the next start of the node',
      })
      for (const waiter of waiters.values()) waiter.reject(error)
    },
  }
}
