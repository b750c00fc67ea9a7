/** What is expected of the builds that come to this node, as the coordinator has said it with their leases. */
import type { Digest } from '../../core/digest.ts'
import { contentsOfMessage } from '../../plan/index.ts'
import { StepPrediction } from '../../proto/generated/hearth/v1/build.ts'
import type { LeaseRequest } from '../../proto/generated/hearth/v1/node.ts'

export interface BuildPlans {
  /** Said again, the latest counts. */
  expect(lease: Pick<LeaseRequest, 'buildId' | 'plans' | 'expectedHits'>): void
  of(buildId: string): BuildPlan | undefined
}

export interface BuildPlan {
  /** Of what the build reads from its client's folders, by the id of the request. */
  readonly contents: ReadonlyMap<string, Digest>
  /** By step key; the steps that nothing was foreseen of are not in it. */
  readonly predictions: ReadonlyMap<string, StepPrediction>
}

/** Builds are asked about until their caches are kept, which may be long after their leases. */
const plansMax = 1_000

export function createBuildPlans(): BuildPlans {
  const plans = new Map<string, BuildPlan>()
  return {
    expect({ buildId, plans: messages, expectedHits }) {
      if (messages.length === 0) return
      const hits = new Set(expectedHits)
      const steps = messages.flatMap((message) => message.steps).filter(({ key }) => key !== '')
      plans.delete(buildId)
      plans.set(buildId, {
        contents: new Map(messages.flatMap((message) => [...contentsOfMessage(message)])),
        predictions: new Map(
          steps.map(({ key }) => [
            key,
            hits.has(key)
              ? StepPrediction.STEP_PREDICTION_REUSED
              : StepPrediction.STEP_PREDICTION_RUNS,
          ]),
        ),
      })
      for (const oldest of plans.keys()) {
        if (plans.size <= plansMax) break
        plans.delete(oldest)
      }
    },
    of: (buildId) => plans.get(buildId),
  }
}
