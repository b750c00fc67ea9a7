/** What is told about a solve: its steps, joined from the build graph and the progress. */
import type { Digest } from '../../../core/digest.ts'
import type { Operation } from '../../../plan/operations.ts'
import {
  BuildOutcome,
  type Failure,
  type KeepOutcome,
  SolveReport,
  Step,
  StepOutcome,
  StepPrediction,
} from '../../../proto/generated/hearth/v1/build.ts'
import type { VertexProgress } from './step-watch.ts'

export interface SolveFacts {
  ref: string
  startedAtMs: number
  endedAtMs: number
  outcome: BuildOutcome
  error: string
  /** Undefined for success. */
  failure: Failure | undefined
  operations: readonly Operation[]
  /** Of steps, by vertex digest. */
  keys: ReadonlyMap<string, Digest>
  /** By step key. */
  predictions: ReadonlyMap<string, StepPrediction>
  vertices: ReadonlyMap<string, VertexProgress>
  cacheBytesRead: number
  cacheBytesKept: number
  cacheBytesLinked: number
  clientBytesIn: number
  clientBytesOut: number
  keep: KeepOutcome
  keepReason: string
  replayed: boolean
  /** By where it came from. */
  cacheBytesBrought: Readonly<Record<string, number>>
  /** What no cache could deliver, if that cost anything. */
  lacked: readonly string[]
}

export function makeReport(facts: SolveFacts): SolveReport {
  const { failure, ...told } = facts
  const steps = uniqueSteps(facts.operations).map((operation) => stepOf(operation, facts))
  return SolveReport.fromPartial({
    ...told,
    ...(failure === undefined ? {} : { failure }),
    startedAt: new Date(facts.startedAtMs),
    durationMs: Math.max(0, Math.round(facts.endedAtMs - facts.startedAtMs)),
    steps,
    lacked: steps.some(isLoss) ? [...facts.lacked] : [],
  })
}

/** What could not be delivered and was not needed is nothing to tell. */
function isLoss({ outcome }: Step): boolean {
  return (
    outcome !== StepOutcome.STEP_OUTCOME_REUSED && outcome !== StepOutcome.STEP_OUTCOME_NOT_REACHED
  )
}

/** Platforms and targets of one solve share operations: each counts once. */
function uniqueSteps(operations: readonly Operation[]): Operation[] {
  const byVertex = new Map(operations.map((operation) => [operation.vertexDigest, operation]))
  return [...byVertex.values()].filter((operation) => operation.isStep)
}

function stepOf(operation: Operation, facts: SolveFacts): Step {
  const progress = facts.vertices.get(operation.vertexDigest)
  const key = facts.keys.get(operation.vertexDigest) ?? ''
  const durationMs =
    progress?.startedMs === undefined || progress.completedMs === undefined
      ? 0
      : Math.max(0, progress.completedMs - progress.startedMs)
  return Step.fromPartial({
    name: operation.name || progress?.name || operation.kind,
    operationDigest: operation.operationDigest,
    dockerfile: operation.source?.file ?? '',
    firstLine: operation.source?.firstLine ?? 0,
    lastLine: operation.source?.lastLine ?? 0,
    outcome: outcomeOf(progress, facts.outcome),
    durationMs,
    error: progress?.error ?? '',
    platform: operation.platform,
    key,
    predicted: facts.predictions.get(key) ?? StepPrediction.STEP_PREDICTION_UNSPECIFIED,
  })
}

/** A step beside the one that failed is cancelled by BuildKit. */
function isEndedFromOutside(outcome: BuildOutcome, error: string): boolean {
  return outcome !== BuildOutcome.BUILD_OUTCOME_FAILED || /context canceled/.test(error)
}

function outcomeOf(progress: VertexProgress | undefined, outcome: BuildOutcome): StepOutcome {
  if (progress?.cached) return StepOutcome.STEP_OUTCOME_REUSED
  if (progress?.error) {
    return isEndedFromOutside(outcome, progress.error)
      ? StepOutcome.STEP_OUTCOME_CANCELLED
      : StepOutcome.STEP_OUTCOME_FAILED
  }
  if (progress?.completedMs !== undefined) return StepOutcome.STEP_OUTCOME_RAN
  if (outcome === BuildOutcome.BUILD_OUTCOME_SUCCEEDED) {
    // Never evaluated because a later step's result was there already.
    return StepOutcome.STEP_OUTCOME_REUSED
  }
  return progress?.startedMs === undefined
    ? StepOutcome.STEP_OUTCOME_NOT_REACHED
    : StepOutcome.STEP_OUTCOME_CANCELLED
}
