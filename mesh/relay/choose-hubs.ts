/** Which nodes the coordinator makes hubs. */
import { fullMeshMax, fullMeshPart } from '../limits.ts'

/** Two are needed for any one to be missed; more so that each has fewer peers. */
const hubsMin = 3
const peersPerHub = 300

/**
 * @param nodes peers that are nodes and can be reached, in any order.
 * @param present hubs of now: they stay as long as they are among the nodes.
 * @param members how many the mesh has in all.
 * @returns nobody where the mesh is small.
 */
export function chooseHubs(
  nodes: readonly { readonly peerId: string; readonly isWell: boolean }[],
  present: ReadonlySet<string>,
  members: number,
): Set<string> {
  // Before they are needed, so that all know them by then.
  if (members <= fullMeshMax * fullMeshPart) return new Set()
  const wanted = Math.max(hubsMin, Math.ceil(members / peersPerHub))
  const preference = ({ peerId, isWell }: (typeof nodes)[number]) =>
    (isWell ? 0 : 2) + (present.has(peerId) ? 0 : 1)
  const ordered = nodes.toSorted(
    (a, b) => preference(a) - preference(b) || (a.peerId < b.peerId ? -1 : 1),
  )
  return new Set(ordered.slice(0, wanted).map(({ peerId }) => peerId))
}
