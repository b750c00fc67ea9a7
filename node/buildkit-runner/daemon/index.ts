/**
 * BuildKit daemons: one stock buildkitd per scope, started on demand, watched, restarted, stopped when idle.
 * Each has its own root, socket, mount namespace, bridge and subnet; one daemon's own cache knows no
 * scopes, so scopes never share one.
 */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'

export interface DaemonPool extends AsyncDisposable {
  /**
   * A running daemon of this scope, started if needed. It is not stopped while a handle is open.
   * @throws HearthError `environment` with buildkitd's last log lines when it does not start,
   *   `deadline` when it is not ready in time.
   */
  acquire(scope: Scope, options: { signal: AbortSignal }): Promise<DaemonHandle>

  /** See RegistryDeps.contentFile. */
  contentFile(scope: Scope, digest: Digest): string | undefined

  /** Bytes of BuildKit's state by scope: measured by walking, at most once per `maxAgeMs`. */
  stateBytes(scope: Scope): Promise<number>

  /** Stops the daemon of a scope and deletes BuildKit's state. Refused (`unavailable`) while a handle is open. */
  reset(scope: Scope): Promise<{ bytesFreed: number }>

  scopes(): Scope[]
}

export interface DaemonHandle extends Disposable {
  readonly scope: Scope
  /** Path of the unix socket of buildkitd's gRPC API. */
  readonly socket: string
  readonly version: string
  /** "os/arch" list, native first. */
  readonly platforms: readonly string[]
  /** Aborted with a HearthError when this daemon's process has ended. */
  readonly ended: AbortSignal
  /** What `ended` was aborted for; undefined before. */
  readonly endedBy: DaemonEnd | undefined
  /** The control group, as a path below the mount points of all trees, that every step runs under. */
  readonly controlGroup: string
  /** A folder on the disk that BuildKit's state is on. */
  readonly stateFolder: string
}

export type DaemonEnd = 'died' | 'hung' | 'stopped'

export { createDaemonPool, type DaemonPoolOptions } from './daemon-pool.ts'
