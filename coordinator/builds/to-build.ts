import {
  Build,
  type BuildOutcome,
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
  })
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
