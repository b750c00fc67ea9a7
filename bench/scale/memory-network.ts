/**
 * Hosts of one process that reach each other without libp2p: for meshes larger than one machine can hold real peers
 * of. They keep the promises of the real host as far as adverts and relays rely on them (ties, connections, streams,
 * hellos); nobody here lies, so a membership is verified once and not by each.
 */
import { HearthError } from '../../core/errors.ts'
import type {
  FramedStream,
  Member,
  Membership,
  MembershipVerifier,
  MeshHost,
  PeerEvent,
  SignedMembership,
  Tie,
} from '../../mesh/index.ts'
import { createMemoryStreams } from './memory-stream.ts'

export interface MemoryNetwork extends Disposable {
  join(options: { membership: SignedMembership; tieTo: (membership: Membership) => Tie }): MeshHost
  /** What all have sent and received: each byte counts twice. */
  bytes(): number
}

interface Peer {
  readonly peerId: string
  shown: SignedMembership
  readonly tieTo: (membership: Membership) => Tie
  readonly members: Map<string, { membership: Membership; signed: SignedMembership }>
  readonly handlers: Map<string, (stream: FramedStream, peerId: string) => void>
  readonly links: Map<string, Link>
  /** Protocols. */
  readonly forNeighbours: Set<string>
  /** As it was said last. */
  readonly neighbours: Set<string>
  readonly peerListeners: Set<(event: PeerEvent) => void>
  readonly memberListeners: Set<(membership: Membership) => void>
}

interface Link {
  readonly ends: readonly [Peer, Peer]
  readonly streams: Set<OpenStream>
  wasIdle: boolean
}

interface OpenStream {
  readonly stream: FramedStream
  readonly opener: Peer
  readonly protocol: string
}

const idleSweepMs = 1_000
const signatureBytes = 64

export function createMemoryNetwork(verifier: MembershipVerifier): MemoryNetwork {
  const peers = new Map<string, Peer>()
  const links = new Set<Link>()
  const verified = new Map<string, Membership>()
  let bytes = 0

  function read(signed: SignedMembership): Membership {
    const key = Buffer.from(signed.subarray(0, signatureBytes)).toString('latin1')
    const known = verified.get(key)
    if (known !== undefined) return known
    const verdict = verifier.verify(signed, undefined)
    if (verdict.type === 'refused') throw new HearthError('forbidden', verdict.reason)
    verified.set(key, verdict.membership)
    return verdict.membership
  }

  const emit = (peer: Peer, event: PeerEvent) => {
    for (const listener of peer.peerListeners) listener(event)
  }

  function tieOf(peer: Peer, peerId: string): Tie {
    const known = peer.members.get(peerId)
    return known === undefined ? 'passing' : peer.tieTo(known.membership)
  }

  function sayConnected(peer: Peer, peerId: string): void {
    const isNeighbour = tieOf(peer, peerId) !== 'passing'
    if (isNeighbour) peer.neighbours.add(peerId)
    else peer.neighbours.delete(peerId)
    emit(peer, { type: 'connected', peerId, isNeighbour })
  }

  function admit(peer: Peer, signed: SignedMembership): boolean {
    const membership = read(signed)
    const { peerId } = membership
    if (peerId === peer.peerId) return false
    const known = peer.members.get(peerId)
    if (known === undefined || known.membership.issuedAtMs < membership.issuedAtMs) {
      peer.members.set(peerId, { membership, signed })
      for (const listener of peer.memberListeners) listener(membership)
    }
    watch(peer, peerId)
    return true
  }

  function watch(peer: Peer, peerId: string): void {
    if (peer.links.has(peerId) || tieOf(peer, peerId) !== 'kept') return
    setImmediate(() => {
      const other = peers.get(peerId)
      if (other === undefined || peers.get(peer.peerId) !== peer) return
      if (tieOf(peer, peerId) === 'kept') link(peer, other)
    })
  }

  function link(from: Peer, to: Peer): Link {
    const present = from.links.get(to.peerId)
    if (present !== undefined) return present
    const made: Link = { ends: [from, to], streams: new Set(), wasIdle: false }
    links.add(made)
    from.links.set(to.peerId, made)
    to.links.set(from.peerId, made)
    admit(from, to.shown)
    admit(to, from.shown)
    sayConnected(from, to.peerId)
    sayConnected(to, from.peerId)
    return made
  }

  function unlink(gone: Link): void {
    if (!links.delete(gone)) return
    const [from, to] = gone.ends
    for (const { stream } of gone.streams) stream.abort('the connection has ended')
    for (const [peer, other] of [
      [from, to],
      [to, from],
    ] as const) {
      peer.links.delete(other.peerId)
      peer.neighbours.delete(other.peerId)
      emit(peer, { type: 'disconnected', peerId: other.peerId })
      watch(peer, other.peerId)
    }
  }

  function openStream(from: Peer, peerId: string, protocol: string): FramedStream {
    const other = peers.get(peerId)
    const handler = other?.handlers.get(protocol)
    if (other === undefined || handler === undefined) {
      throw new HearthError('unavailable', `the peer ${peerId} cannot be reached`)
    }
    const over = link(from, other)
    const [near, far] = createMemoryStreams((count) => {
      bytes += 2 * count
    })
    const open = { stream: near, opener: from, protocol }
    over.streams.add(open)
    near.ended.addEventListener('abort', () => over.streams.delete(open), { once: true })
    handler(far, from.peerId)
    return near
  }

  /** Whether one end has no use for it: the other is no neighbour, and nothing is open but what neighbours open. */
  function isUseless({ ends, streams }: Link, end: Peer): boolean {
    return (
      ends.every((other) => !end.neighbours.has(other.peerId)) &&
      [...streams].every((each) => each.opener !== end && end.forNeighbours.has(each.protocol))
    )
  }

  /** Those that an end has had no use for at two looks. */
  function closeIdle(): void {
    for (const one of links) {
      const isIdle = one.ends.some((end) => isUseless(one, end))
      if (isIdle && one.wasIdle) unlink(one)
      one.wasIdle = isIdle
    }
  }

  const sweeping = setInterval(closeIdle, idleSweepMs).unref()

  function toMember(peer: Peer, peerId: string): Member | undefined {
    const known = peer.members.get(peerId)
    if (known === undefined) return undefined
    return {
      membership: known.membership,
      connected: peer.links.has(peerId),
      roundTripMs: undefined,
    }
  }

  return {
    bytes: () => bytes,
    join({ membership, tieTo }) {
      const { peerId, addresses } = read(membership)
      const peer: Peer = {
        ...{ peerId, shown: membership, tieTo },
        ...{ members: new Map(), handlers: new Map(), links: new Map(), neighbours: new Set() },
        forNeighbours: new Set(),
        ...{ peerListeners: new Set(), memberListeners: new Set() },
      }
      peers.set(peerId, peer)
      return {
        peerId,
        addresses: () => [...addresses],
        membership: () => peer.shown,
        renew(signed) {
          peer.shown = signed
          for (const { ends } of peer.links.values()) {
            for (const end of ends) admit(end, signed)
          }
        },
        learn(memberships) {
          let learned = 0
          for (const signed of memberships) if (admit(peer, signed)) learned += 1
          return { learned }
        },
        setExpelled() {
          throw new Error('nobody is expelled here')
        },
        isExpelled: () => false,
        members: () => [...peer.members.keys()].flatMap((each) => toMember(peer, each) ?? []),
        member: (each) => toMember(peer, each),
        membershipOf: (each) => peer.members.get(each)?.signed,
        async handle(protocol, handler, options) {
          if (options?.isForNeighbours === true) peer.forNeighbours.add(protocol)
          peer.handlers.set(protocol, handler)
        },
        async open(to, protocol, { signal }) {
          signal.throwIfAborted()
          return openStream(peer, to, protocol)
        },
        reconsider() {
          for (const each of peer.links.keys()) {
            const isNeighbour = tieOf(peer, each) !== 'passing'
            if (isNeighbour !== peer.neighbours.has(each)) sayConnected(peer, each)
          }
          for (const each of peer.members.keys()) watch(peer, each)
        },
        onPeer(listener) {
          peer.peerListeners.add(listener)
          for (const each of peer.links.keys()) {
            listener({ type: 'connected', peerId: each, isNeighbour: peer.neighbours.has(each) })
          }
          return { [Symbol.dispose]: () => void peer.peerListeners.delete(listener) }
        },
        onMember(listener) {
          peer.memberListeners.add(listener)
          return { [Symbol.dispose]: () => void peer.memberListeners.delete(listener) }
        },
        async [Symbol.asyncDispose]() {
          peers.delete(peerId)
          for (const each of [...peer.links.values()]) unlink(each)
        },
      }
    },
    [Symbol.dispose]: () => clearInterval(sweeping),
  }
}
