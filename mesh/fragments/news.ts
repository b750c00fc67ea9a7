/** Fragment news: the shelf, a teller and a listener for every connected peer, and who may be believed. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Digest } from '../../core/digest.ts'
import { describeError, HearthError, toHearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type ScopeId, scopeId, splitScopeId } from '../../core/scope.ts'
import type { FramedStream, MeshHost, PeerIdentity } from '../host/index.ts'
import { fragmentAnswerMs, fragmentRelayMs, fragmentRetryMs, redialMsMax } from '../limits.ts'
import type { MembershipVerifier } from '../membership/index.ts'
import type {
  FragmentNews,
  FragmentStatement,
  FragmentSubject,
  KnownFragment,
  OwnFragment,
  SignedFragment,
} from './index.ts'
import { listenToPeer } from './listener.ts'
import { fragmentProtocols } from './messages.ts'
import { openShelf, rankOf } from './shelf.ts'
import { openStatement, sealStatement, sequenceMax } from './statement.ts'
import { createMailbox, type Mailbox, tellPeer } from './teller.ts'

export interface FragmentNewsDeps {
  host: MeshHost
  identity: PeerIdentity
  verifier: MembershipVerifier
  log: Logger
}

export interface FragmentNewsOptions {
  /** Of its own, in the data folder. */
  folder: string
  /** Default `records`. */
  subject?: FragmentSubject
  /** How long others' statements wait before they are offered on. Default: limits.ts. */
  relayMs?: number
}

/** @throws HearthError `environment`, `version` when a newer Hearth wrote the folder. */
export async function createFragmentNews(
  deps: FragmentNewsDeps,
  options: FragmentNewsOptions,
): Promise<FragmentNews> {
  const { host, identity, verifier, log } = deps
  const { subject = 'records' } = options
  const protocol = fragmentProtocols[subject]
  const shelf = await openShelf(options.folder, log)
  const stopping = new AbortController()
  const listeners = new Set<(fragment: KnownFragment) => void>()
  const tellers = new Map<string, { box: Mailbox; stop: AbortController }>()
  const working = new Set<Promise<void>>()
  /** By peer that has summed up what it knows: the scopes it was asked more of, and since when. */
  const asked = new Map<string, Map<ScopeId, number>>()

  /** Keeps disposal waiting for it; never rejects. */
  function track(work: Promise<void>, what: string, peerId: string): void {
    const done = work
      .catch((error: unknown) => log.error({ peer: peerId, error }, what))
      .finally(() => working.delete(done))
    working.add(done)
  }

  function open(signed: SignedFragment): KnownFragment {
    const statement = openStatement(signed, verifier, subject)
    if (host.isExpelled(statement.maker)) {
      throw new HearthError('forbidden', `a fragment of ${statement.maker}, which was expelled`)
    }
    return { statement, signed: Buffer.from(signed) }
  }

  /** What came from others and waits to be offered on, by scope. */
  const arrived = new Map<ScopeId, { ranks: Map<Digest, number>; from: Set<string> }>()
  let relaying: NodeJS.Timeout | undefined

  function relayLater({ statement }: KnownFragment, from: string): void {
    const id = scopeId(statement.scope)
    const news = arrived.get(id) ?? { ranks: new Map<Digest, number>(), from: new Set<string>() }
    arrived.set(id, news)
    news.ranks.set(statement.digest, rankOf(statement))
    news.from.add(from)
    relaying ??= setTimeout(relay, options.relayMs ?? fragmentRelayMs).unref()
  }

  function relay(): void {
    relaying = undefined
    for (const [scope, { ranks, from }] of arrived) {
      for (const [peerId, { box }] of tellers) {
        // Whoever has told all of it need not hear of it.
        if (from.size > 1 || !from.has(peerId)) box.offer(scope, ranks)
      }
    }
    arrived.clear()
  }

  /** @param from a peer's id; empty when it came from elsewhere. */
  async function take(fragments: readonly KnownFragment[], from: string): Promise<void> {
    for (const { statement } of fragments) asked.get(from)?.delete(scopeId(statement.scope))
    for (const fragment of await shelf.put(fragments)) {
      relayLater(fragment, from)
      for (const listener of listeners) listener(fragment)
    }
  }

  async function tell(peerId: string, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      // A new one for each stream: it begins with the summary, so nothing of the old one is missed.
      const letters = createMailbox()
      const known = tellers.get(peerId)
      if (known !== undefined) tellers.set(peerId, { ...known, box: letters })
      try {
        const stream = await host.open(peerId, protocol, { signal })
        const isWorking = () => {
          failures = 0
        }
        await tellPeer({ shelf, letters, working: isWorking }, stream, { signal })
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        log.info(
          { peer: peerId, reason: describeError(error) },
          'a peer hears no fragments for now',
        )
      }
      const mostMs = Math.min(redialMsMax, fragmentRetryMs * 2 ** Math.min(failures, 20))
      await sleep(mostMs / 2 + (Math.random() * mostMs) / 2, undefined, {
        signal,
        ref: false,
      }).catch(() => {})
    }
  }

  async function listen(stream: FramedStream, peerId: string): Promise<void> {
    const refused = (reason: HearthError) =>
      log.warn(
        { peer: peerId, reason: reason.message },
        'a fragment that a peer told of is refused',
      )
    try {
      await listenToPeer(
        {
          shelf,
          open,
          take: (fragments) => take(fragments, peerId),
          summed(scopes) {
            const nowMs = performance.now()
            asked.set(peerId, new Map([...scopes].map((scope) => [scope, nowMs])))
          },
          refused,
        },
        stream,
        { signal: stopping.signal },
      )
    } catch (error) {
      if (stopping.signal.aborted || stream.ended.aborted) return
      log.warn(
        { peer: peerId, reason: describeError(error) },
        'what a peer tells is not listened to',
      )
    } finally {
      stream.abort('the listening ended')
    }
  }

  function stop(peerId: string): void {
    tellers.get(peerId)?.stop.abort()
    tellers.delete(peerId)
    asked.delete(peerId)
  }

  /** A coordinator's peer keeps no records. */
  function wantsFragments(peerId: string): boolean {
    const roles = host.member(peerId)?.membership.roles ?? []
    return roles.some((role) => role !== 'coordinator')
  }

  await host.handle(
    protocol,
    (stream, peerId) => track(listen(stream, peerId), 'the listening to a peer ended', peerId),
    { streamsPerPeerMax: 4, isForNeighbours: true },
  )
  const watching = host.onPeer((event) => {
    const { peerId } = event
    stop(peerId)
    if (event.type === 'connected' && event.isNeighbour && wantsFragments(peerId)) {
      const stopper = new AbortController()
      tellers.set(peerId, { box: createMailbox(), stop: stopper })
      track(tell(peerId, stopper.signal), 'the telling of a peer ended', peerId)
    }
  })

  function sign(fragment: OwnFragment): KnownFragment {
    const { scope, digest, size, isKept = false } = fragment
    const sequence = Math.min(fragment.sequence, sequenceMax)
    const maker = identity.peerId
    const statement: FragmentStatement = { scope, digest, size, sequence, isKept, maker }
    const { signingKey } = identity
    return sealStatement(statement, { signingKey, membership: host.membership(), subject })
  }

  return {
    sign,
    async publish(fragment) {
      const known = sign(fragment)
      const taken = await shelf.put([known])
      for (const each of taken) for (const { box } of tellers.values()) box.tell(each)
      return known
    },
    async add(signed) {
      try {
        await take([open(signed)], '')
        return true
      } catch (error) {
        const { code } = toHearthError(error)
        if (code === 'corrupt' || code === 'forbidden' || code === 'version') return false
        throw error
      }
    },
    of: (scope) => shelf.of(scopeId(scope)),
    latest: (scope) => shelf.latest(scopeId(scope)),
    scopes: () => shelf.scopes().map(splitScopeId),
    forget: (scope, digests) => shelf.forget(scopeId(scope), digests),
    hasTold(peerId, scope) {
      const askedAtMs = asked.get(peerId)?.get(scopeId(scope)) ?? Number.NEGATIVE_INFINITY
      return asked.has(peerId) && performance.now() - askedAtMs > fragmentAnswerMs
    },
    onNews(listener) {
      listeners.add(listener)
      for (const id of shelf.scopes()) for (const each of shelf.of(id)) listener(each)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    async [Symbol.asyncDispose]() {
      watching[Symbol.dispose]()
      stopping.abort()
      clearTimeout(relaying)
      for (const peerId of [...tellers.keys()]) stop(peerId)
      await Promise.all(working)
      await shelf[Symbol.asyncDispose]()
    },
  }
}
