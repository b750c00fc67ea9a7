/** The host: libp2p with a door (admission), a memory (roster) and the habit of coming back (redial). */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { describeError, HearthError, toHearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { dialMs, helloMs, membershipBytesMax, sweepMs, upgradeMs } from '../limits.ts'
import type { Membership, MembershipVerifier, SignedMembership } from '../membership/index.ts'
import { createAdmission, requireValid } from './admission.ts'
import { createConnections } from './connections.ts'
import { frameStream } from './framed-stream.ts'
import { answerHello, helloProtocol, sayHello } from './hello.ts'
import type { PeerIdentity } from './identity.ts'
import type { Member, MeshHost, Tie } from './index.ts'
import { createPeer } from './libp2p.ts'
import { createRedial } from './redial.ts'
import type { Roster } from './roster.ts'
import { createStrangers } from './strangers.ts'

export interface MeshHostDeps {
  identity: PeerIdentity
  verifier: MembershipVerifier
  /** Stays open until the host is disposed; its owner closes it. */
  roster: Roster
  log: Logger
}

export interface MeshHostOptions {
  /** Multiaddresses such as /ip4/0.0.0.0/tcp/7000; none: it only dials. */
  listen: readonly string[]
  /** As others reach it. Default: what it listens on. */
  announce?: readonly string[]
  /** Shown in the hello. */
  membership: SignedMembership
  /** Asked again after `reconsider`. Default: all are kept. */
  tieTo?: (membership: Membership) => Tie
  /** Default: the clock. */
  now?: () => number
  /** Defaults: limits.ts. Ping: every 5 s, given up after 5 to 15 s. */
  limits?: Partial<{
    helloMs: number
    sweepMs: number
    strangersMax: number
    redialMsMax: number
    courtesyMs: number
    pingIntervalMs: number
    pingTimeoutMs: number
  }>
}

/** @throws HearthError `forbidden` when the membership is not a valid one of this identity, `environment` when it cannot listen. */
export async function createMeshHost(
  deps: MeshHostDeps,
  options: MeshHostOptions,
): Promise<MeshHost> {
  const { identity, log } = deps
  const ownPeerId = identity.peerId
  const { limits = {} } = options
  const memberListeners = new Set<(membership: Membership) => void>()
  const admission = createAdmission(deps, {
    ownPeerId,
    now: options.now ?? Date.now,
    onMember(membership) {
      for (const listener of memberListeners) listener(membership)
    },
    ...(limits.strangersMax === undefined ? {} : { strangersMax: limits.strangersMax }),
  })
  requireValid(deps.verifier.verify(options.membership, ownPeerId), 'this peer')
  let own = options.membership

  const stopping = new AbortController()
  const tieOf = (peerId: string): Tie => {
    const membership = admission.member(peerId)
    return membership === undefined ? 'passing' : (options.tieTo?.(membership) ?? 'kept')
  }
  const forNeighbours = new Set<string>()
  const connections = createConnections({
    ownPeerId,
    isNeighbour: (peerId) => tieOf(peerId) !== 'passing',
    isForNeighbours: (protocol) => forNeighbours.has(protocol),
    log,
  })
  const strangers = createStrangers(
    { admission, log },
    { helloMs: limits.helloMs ?? helloMs, upgradeMs },
  )
  /** Hellos of ours under way, by connection: the other side may use ours the moment it has answered. */
  const hellos = new Map<Connection, Promise<unknown>>()
  const peer = await createPeer({
    identity,
    listen: options.listen,
    announce: options.announce ?? [],
    gater: strangers.gater,
    monitor: {
      pingIntervalMs: limits.pingIntervalMs ?? 5_000,
      pingTimeoutMs: limits.pingTimeoutMs ?? 5_000,
    },
  })
  const hello = { admission, own: () => own }

  function toMember(peerId: string): Member | undefined {
    const membership = admission.member(peerId)
    if (membership === undefined) return undefined
    const connection = connections.newest(peerId)
    return { membership, connected: connection !== undefined, roundTripMs: connection?.rtt }
  }

  async function greet(connection: Connection, signal: AbortSignal): Promise<void> {
    const shown = own
    const said = sayHello(hello, connection, { signal })
    hellos.set(connection, said)
    try {
      await said
    } finally {
      hellos.delete(connection)
    }
    enrolled(connection)
    if (own !== shown) showAgain(connection)
  }

  /** Our membership was renewed. A peer that misses it has the old one for two renewals more. */
  function showAgain(connection: Connection): void {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(dialMs)])
    sayHello(hello, connection, { signal }).catch((error: unknown) => {
      const reason = describeError(error)
      const peer = connection.remotePeer.toString()
      log.info({ peer, reason }, 'a renewed membership was not taken')
    })
  }

  function enrolled(connection: Connection): void {
    const peerId = connection.remotePeer.toString()
    strangers.admitted(connection)
    if (connection.status !== 'open') return
    if (connections.newest(peerId) === undefined) log.info({ peer: peerId }, 'a peer is connected')
    connections.add(connection)
    watch(peerId)
  }

  function watch(peerId: string): void {
    if (tieOf(peerId) === 'kept') redial.watch(peerId)
  }

  async function dial(peerId: string, outer: AbortSignal): Promise<Connection> {
    const membership = admission.member(peerId)
    if (membership === undefined) throw new HearthError('forbidden', `${peerId} is no member`)
    const targets = membership.addresses.map((text) => multiaddr(`${text}/p2p/${peerId}`))
    if (targets.length === 0) throw new HearthError('unavailable', `${peerId} has no address`)
    const signal = AbortSignal.any([outer, stopping.signal, AbortSignal.timeout(dialMs)])
    const connection = await peer.dial(targets, { signal })
    try {
      if (connections.newest(peerId) !== connection) await greet(connection, signal)
    } catch (error) {
      connection.abort(new Error('the hello failed'))
      throw error
    }
    return connection
  }

  const redial = createRedial(
    {
      log,
      isWanted: (peerId) => tieOf(peerId) === 'kept',
      isConnected: (peerId) => connections.newest(peerId) !== undefined,
      dial: async (peerId, signal) => void (await dial(peerId, signal)),
      whenGone(peerId, signal) {
        if (connections.newest(peerId) === undefined) return Promise.resolve()
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        const onAbort = () => reject(signal.reason)
        signal.addEventListener('abort', onAbort)
        const listening = connections.onPeer((event) => {
          if (event.peerId === peerId && event.type !== 'connected') resolve()
        })
        return promise.finally(() => {
          signal.removeEventListener('abort', onAbort)
          listening[Symbol.dispose]()
        })
      },
    },
    {
      ownPeerId,
      ...(limits.redialMsMax === undefined ? {} : { redialMsMax: limits.redialMsMax }),
      ...(limits.courtesyMs === undefined ? {} : { courtesyMs: limits.courtesyMs }),
    },
  )

  function shutOut(peerId: string, reason: 'membership expired' | 'taken back'): void {
    log.warn({ peer: peerId, reason }, 'a peer is no member any more')
    connections.emit({ type: 'expelled', peerId, reason })
    for (const connection of peer.getConnections()) {
      if (connection.remotePeer.toString() === peerId) connection.abort(new Error(reason))
    }
  }

  function sweep(): void {
    for (const peerId of admission.sweep()) shutOut(peerId, 'membership expired')
    connections.closeSuperseded()
    connections.closeIdle()
  }

  async function mayEnter(connection: Connection): Promise<boolean> {
    const peerId = connection.remotePeer.toString()
    if (admission.member(peerId) === undefined) await hellos.get(connection)?.catch(() => {})
    return admission.member(peerId) !== undefined
  }

  peer.addEventListener('connection:open', ({ detail }) => strangers.opened(detail))
  peer.addEventListener('connection:close', ({ detail }) => {
    strangers.closed(detail)
    connections.remove(detail)
  })

  await peer.handle(
    helloProtocol,
    async (stream, connection) => {
      const framed = frameStream(stream, { frameBytesMax: membershipBytesMax })
      const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(upgradeMs)])
      try {
        const admitted = () => enrolled(connection)
        await answerHello(hello, framed, connection, { signal, admitted })
      } catch (error) {
        log.warn(
          { peer: connection.remotePeer.toString(), reason: describeError(error) },
          'a peer was turned away',
        )
        connection.abort(new Error('no valid membership'))
      }
    },
    { maxInboundStreams: 2 },
  )

  await startOrExplain(peer, options.listen)
  for (const { peerId } of admission.members()) watch(peerId)
  const sweeping = setInterval(sweep, limits.sweepMs ?? sweepMs).unref()

  return {
    peerId: ownPeerId,
    addresses: () =>
      peer.getMultiaddrs().map((address) => address.toString().replace(/\/p2p\/[^/]+$/, '')),
    renew(membership) {
      requireValid(deps.verifier.verify(membership, ownPeerId), 'this peer')
      own = membership
      for (const peerId of connections.peers()) {
        const connection = connections.newest(peerId)
        if (connection !== undefined) showAgain(connection)
      }
    },
    membership: () => own,
    learn(memberships) {
      let learned = 0
      for (const verdict of admission.admitAll(memberships)) {
        if (verdict.type === 'refused') {
          log.info({ reason: verdict.reason }, 'a membership that was told of does not count')
        } else if (verdict.membership.peerId !== ownPeerId) {
          learned += 1
          watch(verdict.membership.peerId)
        }
      }
      return { learned }
    },
    setExpelled(peerIds) {
      for (const peerId of admission.setExpelled(peerIds)) shutOut(peerId, 'taken back')
    },
    isExpelled: (peerId) => admission.isExpelled(peerId),
    members: () =>
      admission.members().flatMap(({ peerId }) => {
        const member = toMember(peerId)
        return member === undefined ? [] : [member]
      }),
    member: toMember,
    membershipOf: (peerId) =>
      admission.member(peerId) === undefined ? undefined : deps.roster.get(peerId),
    async handle(protocol, handler, handleOptions = {}) {
      // Not as a middleware: libp2p appends each handler to the registered list, which then runs it again.
      const guarded = async (stream: Stream, connection: Connection) => {
        const framed = frameStream(stream)
        if (await mayEnter(connection)) return handler(framed, connection.remotePeer.toString())
        log.warn({ peer: connection.remotePeer.toString(), protocol }, 'a stranger was turned away')
        connection.abort(new Error('no member'))
      }
      if (handleOptions.isForNeighbours === true) forNeighbours.add(protocol)
      await peer.handle(protocol, guarded, {
        maxInboundStreams: handleOptions.streamsPerPeerMax ?? 32,
        maxOutboundStreams: handleOptions.streamsPerPeerMax ?? 32,
      })
    },
    async open(peerId, protocol, { signal }) {
      if (admission.member(peerId) === undefined) {
        throw new HearthError('forbidden', `the peer ${peerId} is no member`)
      }
      const openOn = async (connection: Connection) =>
        frameStream(await connection.newStream(protocol, { signal }))
      // Where both sides dialled at once, a connection may be closed in favour of the other just now.
      for (let mayTryAgain = true; ; mayTryAgain = false) {
        const connection = connections.newest(peerId)
        try {
          return await openOn(connection ?? (await dial(peerId, signal)))
        } catch (error) {
          if (signal.aborted) throw toHearthError(error)
          const isGone = connection?.status !== 'open' || connections.newest(peerId) !== connection
          if (mayTryAgain && connection !== undefined && isGone) {
            if (connection.status !== 'open') connections.remove(connection)
            continue
          }
          throw new HearthError('unavailable', `the peer ${peerId} cannot be reached`, {
            cause: error,
          })
        }
      }
    },
    reconsider() {
      connections.reconsider()
      for (const { peerId } of admission.members()) watch(peerId)
    },
    onPeer: (listener) => connections.onPeer(listener),
    onMember(listener) {
      memberListeners.add(listener)
      return { [Symbol.dispose]: () => void memberListeners.delete(listener) }
    },
    async [Symbol.asyncDispose]() {
      clearInterval(sweeping)
      stopping.abort()
      await redial.stop()
      await peer.stop()
      strangers.stop()
    },
  }
}

async function startOrExplain(peer: Libp2p, listen: readonly string[]): Promise<void> {
  try {
    await peer.start()
  } catch (cause) {
    await Promise.resolve(peer.stop()).catch(() => {})
    throw new HearthError('environment', `cannot listen on ${listen.join(', ')}`, {
      hint: 'choose another address or port',
      cause,
    })
  }
}
