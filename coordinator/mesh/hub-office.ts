/**
 * Which nodes relay news in a large mesh: chosen anew as the fleet changes, and written into their memberships.
 * Who becomes a hub, or is none any more, is known to all by their heartbeats.
 */
import type { Logger } from '../../core/log.ts'
import {
  chooseHubs,
  hubRole,
  type Member,
  type MembershipAuthority,
  type MeshHost,
  type SignedMembership,
} from '../../mesh/index.ts'
import type { State } from '../state/index.ts'

export interface HubOffice extends Disposable {
  isHub(peerId: string): boolean
  /** Chooses again, and signs anew for whoever becomes a hub or is none any more. */
  reconsider(): void
  /** What a node should know by now: its own membership, and those of the hubs and of former ones. */
  newsFor(peerId: string): SignedMembership[]
}

/** A hub that is away for less stays one: its peers have another, and it may only be starting again. */
const hubAwayMsMax = 60_000
/** How long all are told that a hub is none any more; who hears nothing for as long joins again. */
const formerMs = 10 * 60_000
const reconsiderMs = 5_000

/**
 * @param deps.host knows who is a member.
 * @param deps.isPresent in the mesh, connected to this peer or not.
 * @param options.now for what is measured; never goes back.
 */
export function createHubOffice(
  deps: {
    host: Pick<MeshHost, 'members' | 'member' | 'membershipOf' | 'learn'>
    state: Pick<State, 'nodes' | 'write'>
    authority: Pick<MembershipAuthority, 'issue'>
    isPresent: (peerId: string) => boolean
    log: Logger
  },
  options: { now?: () => number; fullMeshMax?: number } = {},
): HubOffice {
  const { host, state, log } = deps
  const now = options.now ?? (() => performance.now())
  const awaySinceMs = new Map<string, number>()
  /** Since when they are none. */
  const former = new Map<string, number>()
  let hubs: readonly string[] = []

  const isHub = (peerId: string): boolean =>
    host.member(peerId)?.membership.roles.includes(hubRole) === true

  function isWell(peerId: string): boolean {
    if (deps.isPresent(peerId)) {
      awaySinceMs.delete(peerId)
      return true
    }
    if (!isHub(peerId)) return false
    const since = awaySinceMs.get(peerId) ?? now()
    awaySinceMs.set(peerId, since)
    return now() - since < hubAwayMsMax
  }

  /** Its membership as it was, but for the role. */
  function sign({ membership }: Member, roles: readonly string[]): void {
    const { peerId, nodeId, addresses, bulkAddress, otherAddresses } = membership
    const signed = deps.authority.issue({
      ...{ peerId, nodeId, addresses, bulkAddress, otherAddresses, roles },
    })
    state.write(() => {
      const record = state.nodes.get(nodeId)
      if (record?.peerId === peerId) state.nodes.put(nodeId, { ...record, membership: signed })
    })
    host.learn([signed])
  }

  function reconsider(): void {
    const joined = new Map(state.nodes.list().map(({ peerId, id }) => [peerId, id]))
    const members = host.members()
    const nodes = members.filter(({ membership: { peerId, nodeId, addresses } }) => {
      return addresses.length > 0 && joined.get(peerId) === nodeId
    })
    const present = new Set(nodes.map(({ membership }) => membership.peerId).filter(isHub))
    const candidates = nodes.map(({ membership: { peerId } }) => {
      return { peerId, isWell: isWell(peerId) }
    })
    const chosen = chooseHubs(candidates, present, {
      members: members.length + 1,
      ...(options.fullMeshMax === undefined ? {} : { fullMeshMax: options.fullMeshMax }),
    })
    for (const node of nodes) {
      const { peerId, nodeId, roles } = node.membership
      if (chosen.has(peerId) === present.has(peerId)) continue
      const others = roles.filter((role) => role !== hubRole)
      if (chosen.has(peerId)) former.delete(peerId)
      else former.set(peerId, now())
      sign(node, chosen.has(peerId) ? [...others, hubRole] : others)
      log.info(
        { node: nodeId, peer: peerId, members: members.length + 1 },
        chosen.has(peerId) ? 'a node becomes a hub' : 'a node is no hub any more',
      )
    }
    hubs = [...chosen]
    for (const [peerId, sinceMs] of former) if (now() - sinceMs > formerMs) former.delete(peerId)
    for (const peerId of awaySinceMs.keys()) if (!chosen.has(peerId)) awaySinceMs.delete(peerId)
  }

  const looking = setInterval(reconsider, reconsiderMs).unref()

  return {
    isHub,
    reconsider,
    newsFor(peerId) {
      const told = new Set([peerId, ...hubs, ...former.keys()])
      return [...told].flatMap((each) => host.membershipOf(each) ?? [])
    },
    [Symbol.dispose]: () => clearInterval(looking),
  }
}
