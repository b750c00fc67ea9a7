/** The relay of one peer: as a subscriber of hubs, as a hub, or neither, as the memberships say now. */
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { NewsDesk } from '../adverts/index.ts'
import type { DigestIndex } from '../digest-index/index.ts'
import { createErrands, type MeshHost } from '../host/index.ts'
import { hubPatienceMs, hubRefusedMs } from '../limits.ts'
import { hearHub } from './hear-hub.ts'
import type { Relay } from './index.ts'
import { relayProtocol } from './messages.ts'
import { createPresence } from './presence.ts'
import { createPulls } from './pulls.ts'
import { createRelayLog } from './relay-log.ts'
import { serveSubscriber } from './serve-subscriber.ts'
import { chooseTopology, hubRole, type Topology } from './topology.ts'

export interface RelayOptions {
  /** Defaults: limits.ts. */
  fullMeshMax?: number
  gapMs?: number
  hubPatienceMs?: number
  presenceGraceMs?: number
}

/** A subscriber that is told of everything. */
interface Serving {
  readonly peerId: string
  /** It was a hub when it came. */
  readonly asHub: boolean
  readonly stop: AbortController
  readonly done: Promise<void>
}

/** What the host must be told when it is made, before there is a relay. */
export interface Ties {
  tieTo: Topology['tieTo']
}

/**
 * @param deps.ties read by the host; kept up to date here.
 * @param deps.isHub whether this peer's own membership says so now.
 */
export async function createRelay(
  deps: {
    host: MeshHost
    index: DigestIndex
    desk: NewsDesk
    ties: Ties
    isHub: () => boolean
    log: Logger
  },
  options: RelayOptions = {},
): Promise<Relay> {
  const { host, index, desk, ties, log } = deps
  await using stack = new AsyncDisposableStack()
  const stopping = new AbortController()
  const serving = new Set<Serving>()
  const relayLog = createRelayLog()
  const newsListeners = new Set<() => void>()
  const presence = stack.use(
    createPresence(
      { host, index },
      options.presenceGraceMs === undefined ? {} : { graceMs: options.presenceGraceMs },
    ),
  )
  const pulls = stack.use(createPulls({ host, desk, isPresent: presence.isPresent, log }))

  let isHub = deps.isHub()
  let topology = chooseTopology({
    ...{ ownPeerId: host.peerId, isHub, members: [], isDown: () => false },
  })
  /** Since when a hub that is wanted is not connected, and until when one that refused is left alone. */
  const awaySinceMs = new Map<string, number>()
  const refusedUntilMs = new Map<string, number>()

  function isDown(hub: string): boolean {
    if ((refusedUntilMs.get(hub) ?? 0) > performance.now()) return true
    const since = awaySinceMs.get(hub)
    return (
      since !== undefined && performance.now() - since > (options.hubPatienceMs ?? hubPatienceMs)
    )
  }

  function noteAway(): void {
    for (const hub of topology.hubs) {
      if (presence.isConnected(hub)) awaySinceMs.delete(hub)
      else if (!awaySinceMs.has(hub)) awaySinceMs.set(hub, performance.now())
    }
    for (const hub of awaySinceMs.keys()) {
      if (!topology.hubs.includes(hub)) awaySinceMs.delete(hub)
    }
  }

  /** The hub to hear from; a hub hears from all others. */
  function isHeard(peerId: string): boolean {
    if (isHub) return topology.hubs.includes(peerId)
    const first = topology.hubs.find((hub) => presence.isConnected(hub) && !isDown(hub))
    return first === peerId
  }

  function reconsider(): void {
    noteAway()
    isHub = deps.isHub()
    const next = chooseTopology(
      {
        ...{ ownPeerId: host.peerId, isHub, isDown },
        members: host.members().map(({ membership }) => membership),
      },
      options.fullMeshMax === undefined ? {} : { fullMeshMax: options.fullMeshMax },
    )
    const before = topology
    topology = next
    ties.tieTo = next.tieTo
    noteAway()
    if (before.isFullMesh !== next.isFullMesh || before.hubs.join() !== next.hubs.join()) {
      log.info({ hubs: next.hubs, fullMesh: next.isFullMesh }, 'ties to the mesh have changed')
    }
    host.reconsider()
    hearing.reconsider()
    for (const { peerId, asHub, stop } of serving) {
      // What it was not told as a hub it lacks as a node: it begins anew.
      if (!isHub || asHub !== hasHubRole(peerId)) stop.abort()
    }
  }

  function hasHubRole(peerId: string): boolean {
    return host.member(peerId)?.membership.roles.includes(hubRole) === true
  }

  const hearing = stack.use(
    createErrands(
      { host, log },
      {
        with: ({ peerId }) => isHeard(peerId),
        async run({ peerId, signal, works }) {
          const stream = await host.open(peerId, relayProtocol, { signal })
          let hasWorked = false
          try {
            await hearHub({ host, index, desk, presence, pulls, log }, stream, {
              ...{ hub: peerId, signal },
              works() {
                hasWorked = true
                refusedUntilMs.delete(peerId)
                works()
              },
            })
          } finally {
            stream.abort('the hearing ended')
            if (!hasWorked && !signal.aborted) {
              refusedUntilMs.set(peerId, performance.now() + hubRefusedMs)
            }
          }
        },
        failed: 'a hub is not heard for now',
      },
    ),
  )

  stack.use(
    desk.onApplied((news) => {
      if (!isHub) return
      relayLog.append(news)
      for (const listener of newsListeners) listener()
    }),
  )

  await host.handle(
    relayProtocol,
    (stream, peerId) => {
      if (!isHub) return stream.abort('this peer is no hub')
      const asHub = hasHubRole(peerId)
      const stop = new AbortController()
      const done = serveSubscriber(
        {
          ...{ host, index, presence, relayLog },
          onNews(listener) {
            newsListeners.add(listener)
            return { [Symbol.dispose]: () => void newsListeners.delete(listener) }
          },
        },
        stream,
        { peerId, isHub: asHub },
        {
          signal: AbortSignal.any([stopping.signal, stop.signal]),
          ...(options.gapMs === undefined ? {} : { gapMs: options.gapMs }),
        },
      )
        .catch((error: unknown) => {
          if (stopping.signal.aborted || stop.signal.aborted || stream.ended.aborted) return
          log.info({ peer: peerId, reason: describeError(error) }, 'a peer hears no news for now')
        })
        .finally(() => serving.delete(entry))
      const entry = { peerId, asHub, stop, done }
      serving.add(entry)
    },
    { streamsPerPeerMax: 2 },
  )

  // Once for all that happens in a turn: hundreds of peers come at once.
  let isDue = false
  const soon = () => {
    if (isDue || stopping.signal.aborted) return
    isDue = true
    setImmediate(() => {
      isDue = false
      if (!stopping.signal.aborted) reconsider()
    })
  }
  stack.use(host.onPeer(soon))
  stack.use(host.onMember(soon))
  // Hubs that do not come back, our own role, and memberships that run out.
  const looking = setInterval(reconsider, lookMs).unref()
  reconsider()

  const owned = stack.move()
  return {
    isPresent: presence.isPresent,
    standing: () => ({ isHub, isFullMesh: topology.isFullMesh, hubs: topology.hubs }),
    async [Symbol.asyncDispose]() {
      stopping.abort()
      clearInterval(looking)
      await Promise.all([...serving].map(({ done }) => done))
      await owned.disposeAsync()
    },
  }
}

const lookMs = 1_000
