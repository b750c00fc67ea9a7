/**
 * BuildKit daemons: one stock buildkitd per scope, started on demand, watched, restarted, stopped when idle.
 * Each has its own root, socket, control group, and namespaces of mounts, processes and network; one daemon's
 * own cache knows no scopes, so scopes never share one.
 */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { PruneOutcome, PruneRequest } from './prune.ts'
import type { StateUsage } from './state-usage.ts'

export interface DaemonPool extends AsyncDisposable {
  /**
   * A running daemon of this scope, started if needed. It is not stopped while a handle is open.
   * @throws HearthError `environment` with buildkitd's last log lines when it does not start,
   *   `deadline` when it is not ready in time.
   */
  acquire(scope: Scope, options: { signal: AbortSignal }): Promise<DaemonHandle>

  /** See RegistryDeps.contentFile. */
  contentFile(scope: Scope, digest: Digest): string | undefined

  /** Walks BuildKit's state of a scope, in another process: a second for 100,000 files, one scope at a time. */
  measure(scope: Scope, options: { signal: AbortSignal }): Promise<StateUsage>

  /** True while somebody has a handle or waits for one. */
  isInUse(scope: Scope): boolean

  /** When a build last used the state, in ms since 1970; 0 when that is not known. */
  lastUsedAtMs(scope: Scope): Promise<number>

  /**
   * Shrinks BuildKit's state of a scope that nobody uses, least recently used first. Starts its daemon if
   * it does not run. Never while builds run: prune.ts says why.
   * @throws HearthError when the daemon does not start or does not prune.
   */
  prune(scope: Scope, request: PruneRequest): Promise<PruneOutcome>

  /** Deletes states that BuildKit could not open and that were set aside before this moment. */
  removeSetAside(scope: Scope, beforeMs: number): Promise<void>

  /** Stops the daemon of a scope and deletes BuildKit's state. Refused (`unavailable`) while a handle is open. */
  reset(scope: Scope): Promise<{ bytesFreed: number }>

  /** How many builds of this scope have a slot now: its steps may together use so many shares. */
  setLeases(scope: Scope, leases: number): void

  /**
   * Refuses destinations to builds (steps and the daemons' own fetches) from now on, in running daemons too,
   * in place of those of the call before; what is denied to every build (firewall.ts) stays so.
   * @param destinations "192.0.2.0/24", "192.0.2.7" or "192.0.2.7:4327"; of IPv6 builds have none anyway.
   * @throws HearthError `invalid-input`
   */
  deny(destinations: readonly string[]): Promise<void>

  /**
   * Lets daemons, not steps, reach these TCP ports of this machine's 127.0.0.1 on their own, from now on, in
   * place of those of the call before: a registry or a proxy that somebody runs there.
   */
  reach(ports: readonly number[]): Promise<void>

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
export { type LeaseShare, shareOfThisMachine } from './lease-limits.ts'
export { proxyPortsOnLoopback } from './loopback-proxies.ts'
export type { PruneOutcome, PruneRequest } from './prune.ts'
export type { ContentFile, StateUsage } from './state-usage.ts'
export { type StepHearer, type SteppingDaemon, stepAnswerMs } from './step-hearer.ts'
export { systemPath } from './system-command.ts'
