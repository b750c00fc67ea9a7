/** Who is to be connected to whom: a pure function of who is a member. */
import { createHash } from 'node:crypto'
import type { Tie } from '../host/index.ts'
import { fullMeshMax, hubsPerPeer } from '../limits.ts'
import type { Membership } from '../membership/index.ts'

export interface Topology {
  readonly isFullMesh: boolean
  /** Hubs to hear from, best first: two that work, and those before them that do not. Of a hub: all others. */
  readonly hubs: readonly string[]
  tieTo(peerId: string): Tie
}

export interface TopologyView {
  readonly ownPeerId: string
  readonly isHub: boolean
  /** All others. */
  readonly members: readonly Membership[]
  /** It was tried for a while and does not answer. */
  isDown(hub: string): boolean
}

export const hubRole = 'hub'

export function chooseTopology(
  view: TopologyView,
  options: { fullMeshMax?: number } = {},
): Topology {
  const { ownPeerId, isHub, members } = view
  const most = options.fullMeshMax ?? fullMeshMax
  const count = members.length + 1
  const all = members.filter(({ roles }) => roles.includes(hubRole)).map(({ peerId }) => peerId)
  // A mesh that has no hub yet is better slow than split.
  const isFullMesh = count <= most || (all.length === 0 && !isHub)
  const hubs = isHub ? all : firstWorking(inOrderOf(ownPeerId, all), view)
  const kept = new Set(hubs)
  return {
    isFullMesh,
    hubs,
    tieTo(peerId) {
      if (isFullMesh || kept.has(peerId)) return 'kept'
      return isHub ? 'welcome' : 'passing'
    },
  }
}

/** Each peer has another order, so that the peers of a hub that dies spread over all others. */
function inOrderOf(peerId: string, hubs: readonly string[]): string[] {
  const rank = (hub: string) => createHash('sha256').update(`${peerId} ${hub}`).digest('hex')
  return hubs
    .map((hub) => ({ hub, rank: rank(hub) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .map(({ hub }) => hub)
}

function firstWorking(ordered: readonly string[], { isDown }: TopologyView): string[] {
  let working = 0
  const chosen: string[] = []
  for (const hub of ordered) {
    if (working === hubsPerPeer) break
    chosen.push(hub)
    if (!isDown(hub)) working += 1
  }
  return chosen
}
