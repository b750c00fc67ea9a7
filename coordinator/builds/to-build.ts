import {
  Build,
  BuildOutcome,
  Cause,
  Failure,
  PlacementDecision,
  type SolveReport,
  StepOutcome,
} from '../../proto/generated/hearth/v1/build.ts'
import type { BuildRecord } from '../state/index.ts'

/** @param solves left out in lists. */
export function toBuild(record: BuildRecord, solves: readonly SolveReport[] = []): Build {
  return Build.create({
    id: record.id,
    scope: { project: record.project, line: record.line },
    openedAt: new Date(record.openedAtMs),
    finishedAt: record.finishedAtMs === undefined ? undefined : new Date(record.finishedAtMs),
    outcome: record.outcome as BuildOutcome,
    command: record.command,
    nodeIds: record.nodeIds,
    solves: [...solves],
    stepsReused: record.stepsReused,
    stepsTotal: record.stepsTotal,
    savedMs: record.savedMs,
    durationMs: record.durationMs,
    failure: failureOf(record, solves),
    decisions: (record.decisions ?? []).map((bytes) => PlacementDecision.decode(bytes)),
  })
}

/** The nodes know best; the coordinator knows of what no node could tell. */
function failureOf(record: BuildRecord, solves: readonly SolveReport[]): Failure | undefined {
  if (record.outcome === BuildOutcome.BUILD_OUTCOME_SUCCEEDED) return undefined
  const told = solves.map(({ failure }) => failure).filter((failure) => failure !== undefined)
  // A solve beside the one that failed is cancelled by its client.
  const first = told.find(({ cause }) => cause !== Cause.CAUSE_CLIENT_CANCELLED) ?? told[0]
  if (first !== undefined || record.failure === undefined) return first
  return Failure.decode(record.failure)
}

/** What was reused, and what it would have taken to run it again. */
export function sumSolves(
  solves: readonly SolveReport[],
): Pick<BuildRecord, 'stepsReused' | 'stepsTotal' | 'savedMs'> {
  const steps = solves.flatMap((solve) => solve.steps)
  const reused = steps.filter(({ outcome }) => outcome === StepOutcome.STEP_OUTCOME_REUSED)
  return {
    stepsReused: reused.length,
    stepsTotal: steps.length,
    savedMs: reused.reduce((sum, step) => sum + step.lastRanMs, 0),
  }
}
