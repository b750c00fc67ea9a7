/**
 * Memberships: what the coordinator signs so that peers know each other while it is away.
 *
 * Promises:
 * - A membership speaks for one peer id; who shows another's is refused.
 * - It holds between machines whose clocks are an hour apart (limits.ts, clockSlackMs).
 * - Whoever has the public key can verify it alone.
 */

export interface Membership {
  /** libp2p peer id of an Ed25519 key, as text. */
  readonly peerId: string
  /** Hearth's id of the node; the coordinator's own membership has one too. */
  readonly nodeId: string
  /** "node", "coordinator", "hub", and the "os/arch" that a node builds; what is unknown is left alone. */
  readonly roles: readonly string[]
  /** Multiaddresses with TCP ports, as others reach the peer; empty when it only dials. */
  readonly addresses: readonly string[]
  /** "host:port" of the peer's direct road for blobs; empty when it serves none. */
  readonly bulkAddress: string
  /** "host:port" of what else listens there and is nothing for builds: a node's proxy and control service. */
  readonly otherAddresses: readonly string[]
  /** By the coordinator's clock, ms since 1970. */
  readonly issuedAtMs: number
  readonly expiresAtMs: number
}

/** 64 bytes of Ed25519 signature, then the JSON that was signed. */
export type SignedMembership = Uint8Array

export type MembershipVerdict =
  | { type: 'valid'; membership: Membership }
  | { type: 'refused'; reason: MembershipRefusal }

export type MembershipRefusal =
  | 'malformed'
  | 'made by a newer Hearth'
  | 'not signed by the coordinator'
  | 'issued to another peer'
  | 'expired'
  | 'not valid yet'
  | 'taken back'

export interface MembershipVerifier {
  /** @param peerId who shows it; undefined when it came from elsewhere, as from the coordinator's roster. */
  verify(signed: SignedMembership, peerId: string | undefined): MembershipVerdict
  /** From when on this peer no longer counts, by this machine's clock. */
  endsAtMs(membership: Membership): number
}

/** The coordinator's side. */
export interface MembershipAuthority {
  /** DER SubjectPublicKeyInfo, which every node gets when it joins. */
  readonly publicKey: Buffer
  issue(member: MemberFacts): SignedMembership
}

/** What the coordinator says of a member; the times are its clock's. */
export type MemberFacts = Omit<Membership, 'issuedAtMs' | 'expiresAtMs' | 'otherAddresses'> &
  Partial<Pick<Membership, 'otherAddresses'>>

export { openMembershipAuthority } from './authority.ts'
export { issueMembership } from './issue.ts'
export { createMembershipVerifier, renewAfterMs } from './verify.ts'
