/**
 * The daemon of one scope over its lives:
 *
 *   absent ──acquire──▶ starting ──answers──▶ running ◀──acquire── idle ──idle time over──▶ stopping ─▶ absent
 *     ▲                    │                  │  │                 ▲ │
 *     └──does not start────┘                  │  └──last handle────┘ └──▶ pruning (gives way to acquire)
 *     ▲                                       │
 *     └───────process ends (handles are told)─┘
 *
 * Starting, stopping and resetting happen one after another. Whoever waits for a daemon or holds a handle
 * is a user; a daemon with a user is never pruned, stopped or reset. Pruning gives way to a user that comes,
 * unless whoever asked for it insists.
 */
import { HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import { connectControl } from './control-client.ts'
import type { DaemonHandle } from './index.ts'
import { rotateLog } from './log-file.ts'
import { type PruneOutcome, type PruneRequest, pruneState } from './prune.ts'
import type { RunningDaemon } from './running-daemon.ts'
import { deleteState, noteUse, type ScopeFolder } from './scope-folder.ts'
import { measureState } from './state-usage.ts'

export interface ScopeDaemon extends AsyncDisposable {
  acquire(options: { signal: AbortSignal }): Promise<DaemonHandle>
  readonly inUse: boolean
  /** See DaemonPool.prune. */
  prune(request: PruneRequest): Promise<PruneOutcome>
  /** @throws HearthError `unavailable` while it has users. */
  reset(): Promise<{ bytesFreed: number }>
}

export interface ScopeDaemonOptions {
  idleStopMs: number
  /** How long after the last handle `onIdle` is called. */
  restMs: number
  logBytesMax: number
}

export function createScopeDaemon(
  deps: {
    scope: Scope
    place: ScopeFolder
    start: (options: { signal: AbortSignal }) => Promise<RunningDaemon>
    /** Called when nobody has used the daemon for a moment: a time to look at its state. */
    onIdle: () => void
    log: Logger
  },
  options: ScopeDaemonOptions,
): ScopeDaemon {
  const { scope, place, log } = deps
  const closing = new AbortController()
  let running: RunningDaemon | undefined
  let starting: Promise<RunningDaemon> | undefined
  let pruning: { abort: AbortController; insists: boolean; done: Promise<unknown> } | undefined
  let users = 0
  let idleTimers: NodeJS.Timeout[] = []

  let turn: Promise<unknown> = Promise.resolve()
  /** One after another, whether or not the one before succeeded. */
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = turn.then(work, work)
    turn = result.catch(() => {})
    return result
  }

  async function ensureRunning(): Promise<RunningDaemon> {
    await pruning?.done
    return startIfNeeded()
  }

  async function startIfNeeded(): Promise<RunningDaemon> {
    if (running !== undefined && !running.ended.aborted) return running
    // All who wait at the same time share one start, and its failure.
    starting ??= inTurn(async () => {
      if (closing.signal.aborted) throw poolClosed()
      await running?.gone
      const daemon = await deps.start({ signal: closing.signal })
      running = daemon
      return daemon
    }).finally(() => {
      starting = undefined
      // Everybody who waited may have left meanwhile.
      if (users === 0) beIdle()
    })
    return starting
  }

  async function stopRunning(): Promise<void> {
    const daemon = running
    // At once, so that nobody is handed a daemon that is about to end.
    running = undefined
    await daemon?.stop()
  }

  function enter(): void {
    users++
    clearIdleTimers()
    if (pruning?.insists === false) pruning.abort.abort()
  }

  function leave(): void {
    users--
    if (users > 0) return
    void noteUse(place)
    beIdle()
  }

  function clearIdleTimers(): void {
    for (const timer of idleTimers) clearTimeout(timer)
    idleTimers = []
  }

  function beIdle(): void {
    if (closing.signal.aborted || running === undefined) return
    clearIdleTimers()
    rotateLog(place.log, options.logBytesMax).catch((error) => {
      log.warn({ error, scope: scopeId(scope) }, 'could not shorten the log of BuildKit')
    })
    idleTimers = [setTimeout(deps.onIdle, options.restMs), setTimeout(stopIdle, options.idleStopMs)]
  }

  function stopIdle(): void {
    inTurn(async () => {
      await pruning?.done
      if (users === 0) await stopRunning()
    }).catch((error) => log.error({ error, scope: scopeId(scope) }, 'could not stop BuildKit'))
  }

  async function prune(request: PruneRequest): Promise<PruneOutcome> {
    // Without a wait when there is nothing to wait for: whoever acquires right after asking finds it begun.
    while (pruning !== undefined) await pruning.done
    if (closing.signal.aborted) throw poolClosed()
    if (users > 0) return { type: 'kept', reason: 'in use' }
    const abort = new AbortController()
    const work = shrink(request, abort.signal)
    const done = work
      .catch(() => {}) // Whoever asked sees it.
      .finally(() => {
        pruning = undefined
      })
    pruning = { abort, insists: request.insist === true, done }
    return work
  }

  async function shrink(request: PruneRequest, signal: AbortSignal): Promise<PruneOutcome> {
    const daemon = await startIfNeeded()
    // Whoever came meanwhile may have a handle already.
    if (signal.aborted) return { type: 'kept', reason: 'gave way to a build' }
    using control = connectControl(daemon.socket)
    const outcome = await pruneState({ control }, request, { signal })
    log.info(
      { scope: scopeId(scope), bytesMax: request.bytesMax, outcome },
      'looked at the size of BuildKit state',
    )
    return outcome
  }

  function openHandle(daemon: RunningDaemon): DaemonHandle {
    let open = true
    return {
      scope,
      socket: daemon.socket,
      version: daemon.version,
      platforms: daemon.platforms,
      ended: daemon.ended,
      get endedBy() {
        return daemon.endedBy
      },
      controlGroup: daemon.controlGroup,
      stateFolder: place.root,
      [Symbol.dispose]() {
        if (!open) return
        open = false
        leave()
      },
    }
  }

  return {
    async acquire({ signal }) {
      if (closing.signal.aborted) throw poolClosed()
      enter()
      try {
        const daemon = await orAborted(ensureRunning(), signal)
        void noteUse(place)
        return openHandle(daemon)
      } catch (error) {
        leave()
        throw closing.signal.aborted ? poolClosed() : error
      }
    },

    get inUse() {
      return users > 0
    },

    prune,

    async reset() {
      const refuse = (): void => {
        if (users === 0) return
        throw new HearthError('unavailable', `a build of ${scopeId(scope)} is running`, {
          hint: 'try again when it has ended',
        })
      }
      refuse()
      return inTurn(async () => {
        await pruning?.done
        refuse()
        await stopRunning()
        const { bytes, bytesSetAside } = await measureState(place)
        await deleteState(place)
        return { bytesFreed: bytes + bytesSetAside }
      })
    },

    async [Symbol.asyncDispose]() {
      closing.abort(poolClosed())
      clearIdleTimers()
      pruning?.abort.abort()
      await pruning?.done
      await inTurn(stopRunning)
    },
  }
}

function poolClosed(): HearthError {
  return new HearthError('unavailable', 'this node is stopping')
}

/** The work itself goes on: others may wait for it, too. */
async function orAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = (): void => reject(new HearthError('cancelled', 'no longer waiting for BuildKit'))
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
