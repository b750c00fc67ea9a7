/**
 * This node's place in the mesh: opens its peer and its direct road for blobs, tells the others what its store
 * holds, and keeps who may ask for blobs in step with who is a member.
 *
 * Promises:
 * - It needs a membership, not a coordinator: with both ends enrolled, adverts and blobs flow while that is away.
 * - What is advertised follows the store's commits, and is withdrawn before anything is unlinked. A mesh in trouble
 *   holds up no eviction for long, and what it missed is put right later.
 * - Blobs are given to living members that are nodes, and to nobody else.
 * - Builds reach no port of the mesh, nor of other nodes, that this node knows of.
 */
import type { TlsIdentity } from '../../core/grpc-server.ts'
import type { Exchange } from '../../mesh/exchange/index.ts'
import type { Adverts, Entry, Mesh, SignedMembership } from '../../mesh/index.ts'

export interface Peering extends AsyncDisposable {
  readonly mesh: Mesh
  readonly exchange: Exchange
  /** As others reach them: multiaddresses of the peer, "host:port" of the direct road. */
  readonly addresses: { readonly mesh: readonly string[]; readonly bulk: string }
  /** The coordinator has signed a new membership, and says who else is in. */
  enrolled(enrolment: PeerEnrolment, roster: readonly SignedMembership[]): void
  /** The coordinator says that exactly these are out. */
  setExpelled(peerIds: readonly string[]): void
  /** The node's certificate was renewed. */
  replaceIdentity(identity: TlsIdentity): void
  readonly adverts: OwnAdverts
}

/** What this node says of itself. The store's blobs are told by themselves; the rest is told here, by who knows it. */
export interface OwnAdverts extends Pick<Adverts, 'publish' | 'withdraw' | 'cool'> {
  /** Resolves when the adverts have been what this node holds, for the first time in its life. */
  compared(): Promise<void>
}

export interface PeerEnrolment {
  readonly membership: SignedMembership
  /** DER SubjectPublicKeyInfo of the coordinator's membership key. */
  readonly membershipKey: Uint8Array
}

/** What a node advertises beside the blobs of its store. Changes are told through `OwnAdverts`. */
export interface FurtherAdverts {
  /** All of it now, in ascending order of keys. */
  entries(): Iterable<Entry>
}

export { keepBuildsOut } from './keep-builds-out.ts'
export { openPeering, type PeeringOptions } from './open-peering.ts'
export { createOwnAdverts } from './own-adverts.ts'
