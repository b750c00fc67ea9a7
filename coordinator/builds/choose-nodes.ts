/** The node for each native platform of a build. */
import type { Scope } from '../../core/scope.ts'
import type { Plan } from '../../proto/generated/hearth/v1/plan.ts'
import type { NodeDirectory, SeenCandidate } from '../nodes/index.ts'
import {
  type Candidate,
  canRoute,
  explainNone,
  normalPlatform,
  type RouteDecision,
  route,
} from '../routing/index.ts'
import type { State } from '../state/index.ts'
import { type BuildForecast, forecastBuild } from './forecast-build.ts'
import type { Outlook } from './outlook.ts'

export type Choice = Extract<RouteDecision, { type: 'chosen' }> & {
  /** As asked for: all of one native platform, or none when none was asked for. */
  readonly platforms: readonly string[]
  readonly forecast: BuildForecast | undefined
  /** Of these platforms, as the client sent them. */
  readonly plans: readonly Plan[]
}

export interface ChooseDeps {
  readonly state: State
  readonly directory: NodeDirectory
  readonly outlook: Outlook
}

export interface ChooseRequest {
  readonly scope: Scope
  readonly platforms: readonly string[]
  readonly plans: readonly Plan[]
}

/** How many of the project's last builds are looked at for the node that built it last. */
export const buildsLookedAt = 5

/**
 * In the order of the platforms' names, the same for every build: builds that need several nodes take their
 * slots one after the other, and never wait for each other in a circle.
 *
 * @param options.waitMs how long nodes may take to come back after a restart of the coordinator.
 * @throws HearthError `invalid-input` when nobody builds a platform, `unavailable` when those are away.
 */
export async function chooseNodes(
  deps: ChooseDeps,
  request: ChooseRequest,
  options: { waitMs: number; signal: AbortSignal },
): Promise<Choice[]> {
  const groups = groupByNative(request.platforms)
  let known: readonly SeenCandidate[] = []
  await deps.directory.whenBack(
    () => {
      known = deps.directory.candidates()
      return groups.every(({ native }) => canRoute(known, native))
    },
    { timeoutMs: options.waitMs, signal: options.signal },
  )
  const candidates = outlookOf(deps, known)
  return groups.map((group) => chooseNode(deps, candidates, request, group))
}

interface PlatformGroup {
  readonly native: string | undefined
  readonly platforms: readonly string[]
}

function chooseNode(
  deps: ChooseDeps,
  candidates: readonly Candidate[],
  { scope, plans }: ChooseRequest,
  { native, platforms }: PlatformGroup,
): Choice {
  const { state, outlook } = deps
  const mine = plans.filter(({ platform }) => {
    return platform === '' || native === undefined || isNative(platform, native)
  })
  const able = candidates.filter((node) => (native ?? node.platform) === node.platform)
  const open = able.filter((node) => node.online && !node.load.draining)
  const forecast = forecastBuild({ state, ...outlook }, scope, mine, open)
  const priced = forecast === undefined ? undefined : new Set(forecast.heat.nodeIds)
  const decision = route(
    priced === undefined || open.length === 0
      ? candidates
      : candidates.filter(({ id }) => priced.has(id)),
    { platform: native, lastNodeId: lastNodeOf(deps, scope, able), forecast },
  )
  if (decision.type === 'none') throw explainNone(decision, platforms[0])
  return { ...decision, platforms, forecast, plans: mine }
}

function outlookOf({ outlook }: ChooseDeps, nodes: readonly SeenCandidate[]): Candidate[] {
  const remainingMs = outlook.underWay.remainingMs()
  return nodes.map((node) => {
    const isSilent = outlook.silent.has(node)
    const left = remainingMs.get(node.id)
    if (!isSilent && left === undefined) return node
    return { ...node, remainingMs: left ?? [], isSilent }
  })
}

function lastNodeOf(
  deps: ChooseDeps,
  { project }: Scope,
  able: readonly Candidate[],
): string | undefined {
  return deps.state.builds
    .list({ project, limit: buildsLookedAt })
    .flatMap(({ nodeIds }) => nodeIds)
    .find((nodeId) => able.some(({ id }) => id === nodeId))
}

/** A plan may name anything. */
function isNative(platform: string, native: string): boolean {
  try {
    return normalPlatform(platform) === native
  } catch {
    return false
  }
}

function groupByNative(platforms: readonly string[]): PlatformGroup[] {
  if (platforms.length === 0) return [{ native: undefined, platforms: [] }]
  const groups = Map.groupBy(new Set(platforms), normalPlatform)
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([native, members]) => ({ native, platforms: members }))
}
