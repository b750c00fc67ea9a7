/**
 * The daemon behind one client connection. buildx asks again and again on one connection whether BuildKit is
 * there, for 20 s: a daemon that died meanwhile is replaced, as long as the client has left nothing in it. From
 * its first session, solve or whatever else has a state on, the client stays with the daemon that has it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { HearthError } from '../../../core/errors.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import type { Upstream } from './upstream.ts'

export interface Backend {
  readonly daemon: DaemonHandle
  readonly upstream: Upstream
}

/** What to tell the client of a call to this daemon that broke: why the daemon has ended, if that broke it. */
export async function blameBackend(backend: Backend, error: unknown): Promise<unknown> {
  if (!(error instanceof HearthError && error.code === 'unavailable')) return error
  await aborted([backend.upstream.closed, backend.daemon.ended], connectionEndMs)
  if (!isGone(backend)) return error
  await aborted([backend.daemon.ended], daemonEndMs)
  return backend.daemon.ended.aborted ? backend.daemon.ended.reason : error
}

export interface BackendHolder {
  /**
   * @param call.isQuestion any daemon of the scope may answer it, and keeps nothing of it.
   */
  get(call: { isQuestion: boolean }): Promise<Backend>
  /** Lets go of the daemon, once it has come. Never rejects. */
  release(): Promise<void>
}

/** A process that has died is reaped, and its log read, in milliseconds. */
const daemonEndMs = 3_000

/** Streams close a moment before the connection that they are on; on a busy machine a long one. */
const connectionEndMs = 1_000

export function holdBackend(connect: () => Promise<Backend>): BackendHolder {
  let current = connect()
  current.catch(() => {}) // Whoever asks for it sees it.
  let hasState = false

  async function renewed(): Promise<Backend> {
    const backend = await current
    if (!isGone(backend)) return backend
    backend.upstream[Symbol.dispose]()
    backend.daemon[Symbol.dispose]()
    return connect()
  }

  return {
    get({ isQuestion }) {
      if (!hasState) {
        current = renewed()
        current.catch(() => {})
      }
      if (!isQuestion) hasState = true
      return current
    },
    async release() {
      const backend = await current.catch(() => undefined)
      backend?.daemon[Symbol.dispose]()
    },
  }
}

function isGone({ daemon, upstream }: Backend): boolean {
  return daemon.ended.aborted || upstream.closed.aborted
}

/** Resolves when one of them is aborted, or the time is over. */
async function aborted(signals: readonly AbortSignal[], limitMs: number): Promise<void> {
  const any = AbortSignal.any([...signals])
  if (any.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const done = (): void => resolve()
  any.addEventListener('abort', done, { once: true })
  await Promise.race([promise, delay(limitMs, undefined, { ref: false })])
  any.removeEventListener('abort', done)
}
