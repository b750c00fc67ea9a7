import { BuildOutcome, type SolveReport } from '../../proto/generated/hearth/v1/build.ts'

/** How a build went, as far as its nodes know, where no client said it. */
export function outcomeOfSolves(solves: readonly SolveReport[]): BuildOutcome {
  const outcomes = new Set(solves.map(({ outcome }) => outcome))
  const worstFirst = [
    BuildOutcome.BUILD_OUTCOME_UNSPECIFIED,
    BuildOutcome.BUILD_OUTCOME_LOST,
    BuildOutcome.BUILD_OUTCOME_CANCELLED,
    BuildOutcome.BUILD_OUTCOME_FAILED,
    BuildOutcome.BUILD_OUTCOME_SUCCEEDED,
  ]
  const worst = worstFirst.find((outcome) => outcomes.has(outcome))
  return worst === undefined || worst === BuildOutcome.BUILD_OUTCOME_UNSPECIFIED
    ? BuildOutcome.BUILD_OUTCOME_LOST
    : worst
}

/** From the first solve's begin to the last one's end, in ms since 1970. */
export function spanOfSolves(
  solves: readonly SolveReport[],
): { startedAtMs: number; endedAtMs: number } | undefined {
  const spans = solves.flatMap(({ startedAt, durationMs }) =>
    startedAt === undefined
      ? []
      : [{ startedAtMs: startedAt.getTime(), endedAtMs: startedAt.getTime() + durationMs }],
  )
  if (spans.length === 0) return undefined
  return {
    startedAtMs: Math.min(...spans.map(({ startedAtMs }) => startedAtMs)),
    endedAtMs: Math.max(...spans.map(({ endedAtMs }) => endedAtMs)),
  }
}
