/**
 * The coordinator's part in the mesh: it says who is a member, and listens to what the members hold. It holds
 * nothing itself, and a mesh whose coordinator is away goes on for as long as the memberships last.
 *
 * Promises:
 * - A peer id is a member for one node at a time; who was taken back stays so over restarts, until it is let in
 *   anew with a join token.
 * - A membership is signed only for a node that Join has let in.
 * - Before a mesh is too large for everybody to be connected to everybody, a few nodes are hubs; one that is gone is
 *   replaced within about a minute.
 */
import type { Mesh, SignedMembership } from '../../mesh/index.ts'
import type { NodeRecord } from '../state/index.ts'

export interface CoordinatorMesh extends AsyncDisposable {
  /** Says nothing of itself: what the nodes hold is in its index. */
  readonly mesh: Mesh
  /**
   * Signs a membership for the node's peer, keeps it, and lets the coordinator's own peer know.
   * @param peer.withToken it was let in by a join token: the operator's word counts more than what was before.
   * @throws HearthError `forbidden` when the peer id is another node's, or was taken back; `invalid-input`.
   */
  enrol(peer: EnrollingPeer): Enrolment
  /** Peer ids whose memberships were taken back and might still be shown. */
  expelled(): string[]
  /** @throws HearthError `forbidden` when the node was removed and comes with its certificate. */
  requireNotRemoved(nodeId: string): void
  /** Takes a node out for good, and its peer's membership back. @throws HearthError `not-found` */
  remove(nodeId: string): NodeRecord
  /** Memberships that a node should know by now: its own, with the roles that it has, and those of the hubs. */
  newsFor(peerId: string): SignedMembership[]
  /** Connected to this peer, or to another that says so. */
  isPresent(peerId: string): boolean
}

export interface EnrollingPeer {
  readonly nodeId: string
  readonly peerId: string
  /** "os/arch" that it builds. */
  readonly platform: string
  /** Multiaddresses. */
  readonly meshAddresses: readonly string[]
  readonly bulkAddress: string
  readonly otherAddresses: readonly string[]
  readonly withToken: boolean
}

/** What a node is told of the mesh when it joins. */
export interface Enrolment {
  readonly membership: SignedMembership
  /** DER SubjectPublicKeyInfo. */
  readonly membershipKey: Uint8Array
  /** All other members, the coordinator's peer among them. */
  readonly roster: SignedMembership[]
}

export { type CoordinatorMeshOptions, openCoordinatorMesh } from './open-coordinator-mesh.ts'
