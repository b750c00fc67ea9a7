/** A build as `--json` prints it, and the words for its outcomes. */
import {
  type Build,
  BuildOutcome,
  KeepOutcome,
  type SolveReport,
  type Step,
  StepOutcome,
} from '../proto/generated/hearth/v1/build.ts'

const buildWords: Record<BuildOutcome, string> = {
  [BuildOutcome.BUILD_OUTCOME_UNSPECIFIED]: 'running',
  [BuildOutcome.BUILD_OUTCOME_SUCCEEDED]: 'succeeded',
  [BuildOutcome.BUILD_OUTCOME_FAILED]: 'failed',
  [BuildOutcome.BUILD_OUTCOME_CANCELLED]: 'cancelled',
  [BuildOutcome.BUILD_OUTCOME_LOST]: 'lost',
}

const stepWords: Record<StepOutcome, string> = {
  [StepOutcome.STEP_OUTCOME_UNSPECIFIED]: 'unknown',
  [StepOutcome.STEP_OUTCOME_REUSED]: 'reused',
  [StepOutcome.STEP_OUTCOME_RAN]: 'ran',
  [StepOutcome.STEP_OUTCOME_FAILED]: 'failed',
  [StepOutcome.STEP_OUTCOME_CANCELLED]: 'cancelled',
  [StepOutcome.STEP_OUTCOME_NOT_REACHED]: 'not reached',
}

const keepWords: Record<KeepOutcome, string> = {
  [KeepOutcome.KEEP_OUTCOME_UNSPECIFIED]: 'unknown',
  [KeepOutcome.KEEP_OUTCOME_PENDING]: 'pending',
  [KeepOutcome.KEEP_OUTCOME_KEPT]: 'kept',
  [KeepOutcome.KEEP_OUTCOME_LOST]: 'lost',
  [KeepOutcome.KEEP_OUTCOME_NOTHING]: 'nothing to keep',
}

// A newer coordinator may know outcomes that this client does not.
export function buildWord(outcome: BuildOutcome): string {
  return buildWords[outcome] ?? 'unknown'
}

export function stepWord(outcome: StepOutcome): string {
  return stepWords[outcome] ?? 'unknown'
}

export function keepWord(outcome: KeepOutcome): string {
  return keepWords[outcome] ?? 'unknown'
}

/** Without the solves: one line of `hearth builds`. */
export function buildSummaryDocument(build: Build) {
  return {
    id: build.id,
    project: build.scope?.project ?? '',
    line: build.scope?.line ?? '',
    outcome: buildWord(build.outcome),
    openedAt: build.openedAt,
    finishedAt: build.finishedAt,
    durationMs: build.durationMs,
    stepsReused: build.stepsReused,
    stepsTotal: build.stepsTotal,
    savedMs: build.savedMs,
    nodeIds: build.nodeIds,
    command: build.command,
  }
}

export function buildDocument(build: Build) {
  return { ...buildSummaryDocument(build), solves: build.solves.map(solveDocument) }
}

function solveDocument(solve: SolveReport) {
  return {
    ref: solve.ref,
    outcome: buildWord(solve.outcome),
    startedAt: solve.startedAt,
    durationMs: solve.durationMs,
    error: solve.error,
    keep: keepWord(solve.keep),
    keepReason: solve.keepReason,
    replayed: solve.replayed,
    cacheBytesRead: solve.cacheBytesRead,
    cacheBytesKept: solve.cacheBytesKept,
    cacheBytesLinked: solve.cacheBytesLinked,
    clientBytesIn: solve.clientBytesIn,
    clientBytesOut: solve.clientBytesOut,
    steps: solve.steps.map(stepDocument),
  }
}

function stepDocument(step: Step) {
  return {
    name: step.name,
    outcome: stepWord(step.outcome),
    durationMs: step.durationMs,
    lastRanMs: step.lastRanMs,
    dockerfile: step.dockerfile,
    firstLine: step.firstLine,
    lastLine: step.lastLine,
    platform: step.platform,
    operationDigest: step.operationDigest,
    error: step.error,
  }
}
