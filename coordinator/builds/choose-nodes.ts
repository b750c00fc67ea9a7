/** The node for each native platform of a build. */
import type { NodeDirectory } from '../nodes/index.ts'
import { explainNone, normalPlatform, type RouteDecision, route } from '../routing/index.ts'
import type { State } from '../state/index.ts'

export type Choice = Extract<RouteDecision, { type: 'chosen' }> & {
  /** As asked for: all of one native platform, or none when none was asked for. */
  readonly platforms: readonly string[]
}

/** How many of the project's last builds are looked at for the node that built it last. */
const buildsLookedAt = 5

/**
 * In the order of the platforms' names, the same for every build: builds that need several nodes take their
 * slots one after the other, and never wait for each other in a circle.
 *
 * @param options.waitMs how long nodes may take to come back after a restart of the coordinator.
 * @throws HearthError `invalid-input` when nobody builds a platform, `unavailable` when those are away.
 */
export async function chooseNodes(
  deps: { state: State; directory: NodeDirectory },
  request: { project: string; platforms: readonly string[] },
  options: { waitMs: number; signal: AbortSignal },
): Promise<Choice[]> {
  const groups = groupByNative(request.platforms)
  const lastNodeIds = deps.state.builds
    .list({ project: request.project, limit: buildsLookedAt })
    .flatMap(({ nodeIds }) => nodeIds)
  const decide = () => {
    const candidates = deps.directory.candidates()
    return groups.map(({ native, platforms }) => {
      const isNative = (id: string) =>
        candidates.some((node) => node.id === id && (native ?? node.platform) === node.platform)
      const lastNodeId = lastNodeIds.find(isNative)
      return { platforms, decision: route(candidates, { platform: native, lastNodeId }) }
    })
  }
  await deps.directory.whenBack(
    () => decide().every(({ decision }) => decision.type === 'chosen'),
    { timeoutMs: options.waitMs, signal: options.signal },
  )
  return decide().map(({ platforms, decision }) => {
    if (decision.type === 'none') throw explainNone(decision, platforms[0])
    return { ...decision, platforms }
  })
}

function groupByNative(
  platforms: readonly string[],
): { native: string | undefined; platforms: string[] }[] {
  if (platforms.length === 0) return [{ native: undefined, platforms: [] }]
  const groups = Map.groupBy(new Set(platforms), normalPlatform)
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([native, members]) => ({ native, platforms: members }))
}
