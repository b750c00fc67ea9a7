/** What a build would cost on each node, for people who ask before they build. */

import type {
  PriceBuildReply,
  PriceBuildRequest,
  PricedPlan,
  StepPrice,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import { Heat, type Plan } from '../../proto/generated/hearth/v1/plan.ts'
import { type Caller, scopeOf } from '../access/index.ts'
import { platformsMax } from '../limits.ts'
import { type Choice, type ChooseDeps, chooseNodes } from './choose-nodes.ts'
import { estimateMessage } from './decision.ts'
import type { BuildForecast } from './forecast-build.ts'

export async function priceBuild(
  deps: ChooseDeps,
  caller: Caller,
  request: PriceBuildRequest,
  options: { waitMs: number; signal: AbortSignal },
): Promise<PriceBuildReply> {
  const scope = scopeOf(caller, request.project)
  const plans: PricedPlan[] = []
  for (const plan of request.plans.slice(0, platformsMax)) {
    const platforms = plan.platform === '' ? [] : [plan.platform]
    const [choice] = await chooseNodes(deps, { scope, platforms, plans: [plan] }, options)
    if (choice !== undefined) plans.push(pricedPlan(plan, choice))
  }
  return { plans }
}

function pricedPlan({ platform, steps }: Plan, choice: Choice): PricedPlan {
  const nodes = [choice, ...choice.runnersUp]
  const { forecast } = choice
  return {
    platform,
    nodes: nodes.map(estimateMessage),
    steps:
      forecast === undefined
        ? []
        : steps.map(({ key }, row) => priceStep(key, row, forecast, nodes)),
  }
}

function priceStep(
  key: string,
  row: number,
  { heat }: BuildForecast,
  nodes: readonly { nodeId: string }[],
): StepPrice {
  return {
    key,
    bytes: heat.bytes(row),
    nodes: nodes.map(({ nodeId }) => ({ nodeId, heat: heatOf(heat, row, nodeId) })),
  }
}

function heatOf(heat: BuildForecast['heat'], row: number, nodeId: string): Heat {
  const own = heat.at(row, heat.nodeIds.indexOf(nodeId))
  if (own !== undefined) return own === 'hot' ? Heat.HEAT_HOT : Heat.HEAT_HELD
  return heat.isSomewhere(row) ? Heat.HEAT_NEAR : Heat.HEAT_GONE
}
