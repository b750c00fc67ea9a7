/** Sweeps now and then: of all nodes of a bucket, the one whose turn comes first. */
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Bucket } from './bucket.ts'
import type { ServerClock } from './server-clock.ts'

/** Touched by whoever sweeps. */
const markKey = 'last-sweep'

/** Between a fifth and the whole of this part of the time, so that not all nodes look at the same moment. */
const looksPerTurn = 8

export function startDailySweep(
  deps: {
    bucket: Pick<Bucket, 'head' | 'put'>
    clock: ServerClock
    log: Logger
    sweep: (options: { signal: AbortSignal }) => Promise<unknown>
  },
  { everyMs }: { everyMs: number },
): AsyncDisposable {
  const closing = new AbortController()
  const { signal } = closing
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> = Promise.resolve()

  function plan(): void {
    if (signal.aborted) return
    const waitMs = (everyMs / looksPerTurn) * (0.2 + 0.8 * Math.random())
    timer = setTimeout(() => {
      running = sweepIfDue().catch((error: unknown) => {
        if (!signal.aborted) {
          deps.log.warn({ error: describeError(error) }, 'the object store could not be swept')
        }
      })
      void running.then(plan)
    }, waitMs).unref()
  }

  async function sweepIfDue(): Promise<void> {
    const last = await deps.bucket.head(markKey, { signal })
    const nowMs = deps.clock.nowMs()
    if (last !== undefined && nowMs !== undefined && nowMs - last.modifiedMs < everyMs) return
    // First, so that no other node begins too.
    await deps.bucket.put(markKey, Buffer.from('{"version":1}\n'), { signal })
    await deps.sweep({ signal })
  }

  if (everyMs > 0) plan()
  return {
    async [Symbol.asyncDispose]() {
      closing.abort()
      clearTimeout(timer)
      await running
    },
  }
}
