/**
 * Who may speak to us: members, and for a moment a few strangers who must become members. Knows memberships
 * and time, nothing of connections.
 */
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { strangersMax } from '../limits.ts'
import type {
  Membership,
  MembershipVerdict,
  MembershipVerifier,
  SignedMembership,
} from '../membership/index.ts'
import type { Roster } from './roster.ts'

export interface Admission {
  /** Undefined also for whoever's membership has run out since the last sweep. */
  member(peerId: string): Membership | undefined
  members(): Membership[]
  /** Verifies what a peer showed, and keeps it if it is newer. */
  admit(signed: SignedMembership, peerId: string): MembershipVerdict
  /** The same for what was told of others. */
  admitAll(memberships: Iterable<SignedMembership>): MembershipVerdict[]
  /** See MeshHost. @returns those that were members. */
  setExpelled(peerIds: Iterable<string>): string[]
  isExpelled(peerId: string): boolean
  /** Forgets members whose time is over and names them. */
  sweep(): string[]
  /** Takes one of the strangers' places until disposal; undefined when all are taken, or this peer has one. */
  letInStranger(peerId: string): Disposable | undefined
}

export interface AdmissionDeps {
  verifier: MembershipVerifier
  roster: Roster
  log: Logger
}

export function createAdmission(
  { verifier, roster, log }: AdmissionDeps,
  options: {
    ownPeerId: string
    now: () => number
    strangersMax?: number
    /** Called when a peer has become a member, or has shown a newer membership. */
    onMember: (membership: Membership) => void
  },
): Admission {
  const members = new Map<string, Membership>()
  /** By the bytes that were verified: every hub tells of all, and verifying takes a hundred times as long. */
  const verified = new Map<string, Membership>()
  const texts = new Map<string, string>()
  const strangers = new Set<string>()
  let expelled: ReadonlySet<string> = new Set(roster.expelled())

  const isOver = (membership: Membership) => options.now() >= verifier.endsAtMs(membership)

  function verify(signed: SignedMembership, peerId: string | undefined): MembershipVerdict {
    const known = verified.get(textOf(signed))
    if (known === undefined || isOver(known) || (peerId ?? known.peerId) !== known.peerId) {
      return verifier.verify(signed, peerId)
    }
    return { type: 'valid', membership: known }
  }

  function keep(
    signed: SignedMembership,
    peerId: string | undefined,
    write: (peerId: string, signed: SignedMembership) => void,
  ): MembershipVerdict {
    const verdict = verify(signed, peerId)
    if (verdict.type === 'refused') return verdict
    const { membership } = verdict
    if (membership.peerId === options.ownPeerId) return verdict
    if (expelled.has(membership.peerId)) return { type: 'refused', reason: 'taken back' }
    const known = members.get(membership.peerId)
    if (known !== undefined && membership.issuedAtMs <= known.issuedAtMs) return verdict
    remember(membership, signed)
    write(membership.peerId, signed)
    options.onMember(membership)
    return verdict
  }

  function remember(membership: Membership, signed: SignedMembership): void {
    const { peerId } = membership
    forget(peerId)
    const text = textOf(signed)
    members.set(peerId, membership)
    verified.set(text, membership)
    texts.set(peerId, text)
  }

  function forget(peerId: string): boolean {
    verified.delete(texts.get(peerId) ?? '')
    texts.delete(peerId)
    return members.delete(peerId)
  }

  for (const signed of roster.list()) {
    const verdict = verifier.verify(signed, undefined)
    if (verdict.type === 'valid') remember(verdict.membership, signed)
    else log.info({ reason: verdict.reason }, 'a membership in the roster no longer counts')
  }
  forget(options.ownPeerId)
  for (const peerId of expelled) forget(peerId)

  return {
    member(peerId) {
      const membership = members.get(peerId)
      return membership === undefined || isOver(membership) ? undefined : membership
    },
    members: () => [...members.values()].filter((membership) => !isOver(membership)),
    admit(signed, peerId) {
      return keep(signed, peerId, (id, each) => roster.put(new Map([[id, each]])))
    },
    admitAll(memberships) {
      const news = new Map<string, SignedMembership>()
      const verdicts = Array.from(memberships, (signed) =>
        keep(signed, undefined, (peerId, each) => news.set(peerId, each)),
      )
      if (news.size > 0) roster.put(news)
      return verdicts
    },
    setExpelled(peerIds) {
      const next = new Set(peerIds)
      if (next.symmetricDifference(expelled).size === 0) return []
      // First, so that what was taken back stays so also when this process ends now.
      roster.setExpelled([...next])
      expelled = next
      const gone = [...next].filter(forget)
      for (const peerId of gone) roster.remove(peerId)
      return gone
    },
    isExpelled: (peerId) => expelled.has(peerId),
    sweep() {
      const over = [...members.values()].filter(isOver).map(({ peerId }) => peerId)
      for (const peerId of over) {
        forget(peerId)
        roster.remove(peerId)
      }
      return over
    },
    letInStranger(peerId) {
      if (strangers.has(peerId) || strangers.size >= (options.strangersMax ?? strangersMax)) {
        return undefined
      }
      strangers.add(peerId)
      return { [Symbol.dispose]: () => void strangers.delete(peerId) }
    },
  }
}

/** @throws HearthError `forbidden` when the verdict refuses. */
export function requireValid(verdict: MembershipVerdict, whose: string): Membership {
  if (verdict.type === 'valid') return verdict.membership
  throw new HearthError('forbidden', `the membership of ${whose} is refused: ${verdict.reason}`, {
    hint: 'it needs a new one from the coordinator, and both clocks right to the hour',
  })
}

function textOf(signed: SignedMembership): string {
  return Buffer.from(signed.buffer, signed.byteOffset, signed.byteLength).toString('latin1')
}
