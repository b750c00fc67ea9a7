/** Which nodes the coordinator makes hubs. */
import { fullMeshMax, fullMeshPart, hublessPart } from '../limits.ts'

export interface HubCandidate {
  readonly peerId: string
  /** It is there, and means to stay. */
  readonly isWell: boolean
}

/** Two are needed for any one to be missed; more so that each has fewer peers. */
const hubsMin = 3
const peersPerHub = 300

/**
 * @param nodes peers that are nodes and can be reached, in any order.
 * @param present hubs of now: they stay as long as they are among the nodes, and well.
 * @param options.members how many the mesh has in all.
 * @param options.fullMeshMax default: limits.ts.
 * @returns nobody where the mesh is small.
 */
export function chooseHubs(
  nodes: readonly HubCandidate[],
  present: ReadonlySet<string>,
  options: { members: number; fullMeshMax?: number },
): Set<string> {
  const most = options.fullMeshMax ?? fullMeshMax
  // Before they are needed, so that all know them by then; and not to and fro where the size is near the limit.
  const part = present.size > 0 ? hublessPart : fullMeshPart
  if (options.members <= most * part) return new Set()
  const wanted = Math.max(hubsMin, Math.ceil(options.members / peersPerHub))
  const preference = ({ peerId, isWell }: HubCandidate) =>
    (isWell ? 0 : 2) + (present.has(peerId) ? 0 : 1)
  const ordered = nodes.toSorted(
    (a, b) => preference(a) - preference(b) || (a.peerId < b.peerId ? -1 : 1),
  )
  return new Set(ordered.slice(0, wanted).map(({ peerId }) => peerId))
}
