/**
 * The peer itself: one libp2p host over TCP, noise and yamux, known by its own key, among members only.
 *
 * Promises:
 * - Whoever has not shown a membership of the coordinator can open nothing but the hello, for a second.
 * - Members are remembered on disk: the mesh comes up again without its coordinator.
 * - It tries to stay connected to every member that it has a tie to, forever, at most every 30 s.
 * - A member whose membership has run out is disconnected, and said so to whoever listens.
 */
import type { Membership, SignedMembership } from '../membership/index.ts'
import type { FramedStream } from './framed-stream.ts'

export interface MeshHost extends AsyncDisposable {
  readonly peerId: string
  /** Where it listens, with the ports that were chosen. */
  addresses(): string[]
  /**
   * Our own membership, at first and whenever it is renewed; connected peers see the new one at once.
   * @throws HearthError `forbidden` when it is not a valid one of ours.
   */
  renew(membership: SignedMembership): void
  /** Our own, as it is shown to others. */
  membership(): SignedMembership
  /** Memberships that came from elsewhere, as from the coordinator's roster. Invalid and older ones are left out. */
  learn(memberships: Iterable<SignedMembership>): { learned: number }
  /**
   * Exactly these peers are no members, whatever they show, also after a restart: the coordinator took their
   * memberships back. Those that are connected are disconnected.
   */
  setExpelled(peerIds: Iterable<string>): void
  isExpelled(peerId: string): boolean
  /** All others, connected or not. */
  members(): readonly Member[]
  member(peerId: string): Member | undefined
  /** As the coordinator signed it, to be shown to others. */
  membershipOf(peerId: string): SignedMembership | undefined
  /** Only members get through to the handler, which must take the stream in the same turn. */
  handle(
    protocol: string,
    handler: (stream: FramedStream, peerId: string) => void,
    options?: HandleOptions,
  ): Promise<void>
  /**
   * Opens a stream on the newest connection, dialling if there is none.
   * @throws HearthError `unavailable`, `forbidden` when it is no member, `cancelled`
   */
  open(peerId: string, protocol: string, options: { signal: AbortSignal }): Promise<FramedStream>
  /** The ties to some members are others now than `tieTo` said before. */
  reconsider(): void
  /** Called in the turn of the event; members that are connected already come at once as `connected`. */
  onPeer(listener: (event: PeerEvent) => void): Disposable
  /** Called when a peer has become a member, connected or not, and when its membership was renewed. */
  onMember(listener: (membership: Membership) => void): Disposable
}

export interface HandleOptions {
  streamsPerPeerMax?: number
  /** Peers open such streams to all their neighbours. They keep no connection to a peer that is none of ours. */
  isForNeighbours?: boolean
}

/**
 * What this peer wants of a member: `kept` connected, dialled for as long as it is a member; `welcome`, a neighbour
 * when it connects; `passing`, connected only while either side has a stream open.
 */
export type Tie = 'kept' | 'welcome' | 'passing'

export interface Member {
  readonly membership: Membership
  readonly connected: boolean
  /** Of the newest connection, in ms, once it was measured. */
  readonly roundTripMs: number | undefined
}

export type PeerEvent =
  /**
   * Also when another connection became the newest one, or the peer a neighbour or none any more: streams are to be
   * opened anew. Who is no neighbour was only dialled for something, and gets no news.
   */
  | { type: 'connected'; peerId: string; isNeighbour: boolean }
  | { type: 'disconnected'; peerId: string }
  /** No member any more: whatever else is open to it must be closed. */
  | { type: 'expelled'; peerId: string; reason: 'membership expired' | 'taken back' }

export { createErrands, type Errands } from './errands.ts'
export type { FramedStream } from './framed-stream.ts'
export { createMeshHost, type MeshHostOptions } from './host.ts'
export { identityOfKey, openPeerIdentity, type PeerIdentity } from './identity.ts'
export { publicKeyOfPeer } from './peer-key.ts'
export { openRoster, type Roster } from './roster.ts'
