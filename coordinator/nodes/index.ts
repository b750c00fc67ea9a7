/**
 * The nodes of this coordinator: which there are, how they are, and how to ask them something.
 *
 * A node is online while it calls regularly. What it says of its load is kept in memory only: after a
 * restart the coordinator waits for the nodes' next calls instead of guessing.
 */
import type { TlsIdentity } from '../../core/grpc-server.ts'
import type {
  LeaseEvent,
  LeaseRequest,
  MountUsage,
  NodeCacheUsage,
  NodeLoad,
  VerifyEvent,
} from '../../proto/generated/hearth/v1/node.ts'
import type { Candidate } from '../routing/index.ts'
import type { NodeRecord } from '../state/index.ts'

export interface NodeDirectory {
  /** Adds a node or changes what is known of it. It is online from its first heartbeat on. */
  join(node: Omit<NodeRecord, 'joinedAtMs' | 'lastSeenAtMs'>): NodeRecord
  /** @throws HearthError `not-found` when the node must join first. */
  heartbeat(nodeId: string, load: NodeLoad): void
  /** A slot was granted that the node's last call could not know of. */
  noteLease(nodeId: string): void
  get(nodeId: string): NodeRecord | undefined
  /** @throws HearthError `not-found`, `unavailable` when it is offline. */
  requireOnline(nodeId: string): NodeRecord
  list(): KnownNode[]
  candidates(): SeenCandidate[]
  /**
   * Waits until nodes have called that make the check true, but only as long as those that were here before
   * a restart may still be on their way back, and no longer than `timeoutMs`.
   */
  whenBack(check: () => boolean, options: { timeoutMs: number; signal: AbortSignal }): Promise<void>
  /** Writes down when each was last seen, and forgets those that have been away for long. */
  keep(): void
}

export interface SeenCandidate extends Candidate {
  readonly lastSeenAtMs: number
}

export interface KnownNode {
  readonly node: NodeRecord
  readonly online: boolean
  readonly lastSeenAtMs: number
  readonly load: NodeLoad
}

/** The coordinator's end of the conversation with a node, over mutual TLS. */
export interface NodeControlPool extends Disposable {
  /** Uses this identity for connections from now on. */
  replaceIdentity(identity: TlsIdentity): void
  /** Ends with the grant. Leaving the loop, or the signal, gives the place up. */
  lease(
    node: NodeRecord,
    request: LeaseRequest,
    options: { timeoutMs: number; signal: AbortSignal },
  ): AsyncIterable<LeaseEvent>
  release(
    node: NodeRecord,
    buildId: string,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<void>
  /** Which of the builds have a lease there. */
  heldBuilds(
    node: NodeRecord,
    buildIds: string[],
    options: { signal: AbortSignal },
  ): Promise<string[]>
  usage(
    node: NodeRecord,
    project: string,
    options: { signal: AbortSignal },
  ): Promise<NodeCacheUsage>
  verify(
    node: NodeRecord,
    project: string,
    options: { signal: AbortSignal },
  ): AsyncIterable<VerifyEvent>
  mounts(node: NodeRecord, project: string, options: { signal: AbortSignal }): Promise<MountUsage[]>
  /** Snapshots that are not restored any more. */
  resetMount(
    node: NodeRecord,
    mount: { project: string; id: string },
    options: { signal: AbortSignal },
  ): Promise<number>
  /** Bytes freed. */
  reset(node: NodeRecord, project: string, options: { signal: AbortSignal }): Promise<number>
}

export { createNodeControlPool } from './control.ts'
export { createNodeDirectory } from './directory.ts'
