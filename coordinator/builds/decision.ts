/** A placement's reasons, as they are told to people and kept with the build. */
import { PlacementDecision } from '../../proto/generated/hearth/v1/build.ts'
import { NodeEstimate } from '../../proto/generated/hearth/v1/plan.ts'
import type { Estimate } from '../routing/index.ts'
import type { State } from '../state/index.ts'
import type { Choice } from './choose-nodes.ts'

interface PricedNode {
  readonly nodeId: string
  readonly reason: string
  readonly estimate: Estimate
}

/** Those that nobody would look at are not kept. */
const runnersUpMax = 10

export function estimateMessage({ nodeId, reason, estimate }: PricedNode): NodeEstimate {
  const { queueMs, endMs, moveMs = 0, unpackMs = 0, runMs = 0 } = estimate
  return NodeEstimate.fromPartial({
    nodeId,
    reason,
    queueMs: Math.round(queueMs),
    moveMs: Math.round(moveMs),
    unpackMs: Math.round(unpackMs),
    runMs: Math.round(runMs),
    endMs: Math.round(endMs),
    bytesToMove: Math.round(estimate.bytesMoved ?? 0),
    stepsReused: estimate.stepsReused ?? 0,
    stepsTotal: estimate.stepsTotal ?? 0,
  })
}

/** @param nodeId the node that gave the slot, which may be a runner-up. */
export function keepDecision(
  { state }: { state: State },
  placed: {
    buildId: string
    choice: Choice
    nodeId: string
    platforms: readonly string[]
    decidedAtMs: number
  },
): void {
  const { choice, nodeId } = placed
  const all = [choice, ...choice.runnersUp]
  const chosen = all.find((each) => each.nodeId === nodeId)
  const decision = PlacementDecision.fromPartial({
    platforms: [...placed.platforms],
    ...(chosen === undefined ? {} : { chosen: estimateMessage(chosen) }),
    runnersUp: all
      .filter((each) => each !== chosen)
      .slice(0, runnersUpMax)
      .map(estimateMessage),
    decidedAt: new Date(placed.decidedAtMs),
  })
  const known = state.builds.get(placed.buildId)?.decisions ?? []
  const decisions = [...known, PlacementDecision.encode(decision).finish()]
  state.builds.update(placed.buildId, { decisions })
}
