/** A plan on its way to the coordinator and the node: without what only explains differences. */
import { type Digest, isDigest } from '../core/digest.ts'
import {
  type Plan as PlanMessage,
  type PlannedStep as PlannedStepMessage,
  StepDoubt,
} from '../proto/generated/hearth/v1/plan.ts'
import { type Doubt, describePartial, type Plan, type PlannedStep } from './plan.ts'

export function planMessage(plan: Plan): PlanMessage {
  return {
    platform: plan.platform,
    steps: plan.steps.map(stepMessage),
    partialReason: plan.partial.map(describePartial).join('; '),
    contents: { ...plan.contents },
  }
}

const doubts: Record<Doubt, StepDoubt> = {
  none: StepDoubt.STEP_DOUBT_NONE,
  content: StepDoubt.STEP_DOUBT_CONTENT,
  source: StepDoubt.STEP_DOUBT_SOURCE,
}

function stepMessage(step: PlannedStep): PlannedStepMessage {
  return {
    key: step.key ?? '',
    name: step.name,
    operationDigest: step.operationDigest,
    inputs: [...step.inputs],
    imageDigests: step.images.flatMap(({ digest }) => digest ?? []),
    cacheMounts: step.cacheMounts.map(({ id, sharing }) => ({ id, sharing })),
    runsAnyway: step.ignoresCache || !step.recognizable,
    doubt: doubts[step.doubt],
    dockerfile: step.source?.file ?? '',
    firstLine: step.source?.firstLine ?? 0,
    lastLine: step.source?.lastLine ?? 0,
    platform: step.platform,
    lastRanMs: 0,
  }
}

/** For `keysOfDefinition`. What is no digest is left out: a client may send anything. */
export function contentsOfMessage(message: PlanMessage): Map<string, Digest> {
  return new Map(
    Object.entries(message.contents).filter((entry): entry is [string, Digest] =>
      isDigest(entry[1]),
    ),
  )
}
