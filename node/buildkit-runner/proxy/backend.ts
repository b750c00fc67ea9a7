/**
 * The daemon behind one client connection. buildx asks again and again on one connection whether BuildKit is
 * there, for 20 s: a daemon that died meanwhile is replaced, as long as the client has left nothing in it. From
 * its first session, solve or whatever else has a state on, the client stays with the daemon that has it.
 */
import type { DaemonHandle } from '../daemon/index.ts'
import type { Upstream } from './upstream.ts'

export interface Backend {
  readonly daemon: DaemonHandle
  readonly upstream: Upstream
}

export interface BackendHolder {
  /**
   * @param call.isQuestion any daemon of the scope may answer it, and keeps nothing of it.
   */
  get(call: { isQuestion: boolean }): Promise<Backend>
  /** Lets go of the daemon, once it has come. Never rejects. */
  release(): Promise<void>
}

export function holdBackend(connect: () => Promise<Backend>): BackendHolder {
  let current = connect()
  current.catch(() => {}) // Whoever asks for it sees it.
  let hasState = false

  async function renewed(): Promise<Backend> {
    const backend = await current
    if (!backend.daemon.ended.aborted && !backend.upstream.closed.aborted) return backend
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
