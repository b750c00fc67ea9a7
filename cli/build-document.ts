/** A build as `--json` prints it, and the words for its outcomes. */
import {
  type Build,
  BuildOutcome,
  Cause,
  type Failure,
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

const causeWords: Record<Cause, string> = {
  [Cause.CAUSE_UNSPECIFIED]: 'unknown',
  [Cause.CAUSE_STEP_FAILED]: 'step failed',
  [Cause.CAUSE_STEP_KILLED]: 'step killed',
  [Cause.CAUSE_OUT_OF_MEMORY]: 'out of memory',
  [Cause.CAUSE_STEP_DISK_FULL]: 'no space in the step',
  [Cause.CAUSE_NODE_DISK_FULL]: "node's disk full",
  [Cause.CAUSE_BUILDKIT_DIED]: 'BuildKit died',
  [Cause.CAUSE_BUILDKIT_HUNG]: 'BuildKit hung',
  [Cause.CAUSE_CLIENT_CANCELLED]: 'cancelled by the client',
  [Cause.CAUSE_CLIENT_LOST]: 'client lost',
  [Cause.CAUSE_NODE_STOPPED]: 'node stopped',
  [Cause.CAUSE_NODE_LOST]: 'node lost',
  [Cause.CAUSE_REFUSED]: 'refused by BuildKit',
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

export function causeWord(cause: Cause): string {
  return causeWords[cause] ?? 'unknown'
}

/** Null unless something went wrong. */
export function failureDocument(failure: Failure | undefined) {
  if (failure === undefined) return null
  const { text, advice, step, dockerfile, firstLine, lastLine, exitCode } = failure
  const cause = causeWord(failure.cause)
  return { cause, text, advice, step, dockerfile, firstLine, lastLine, exitCode }
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
  return {
    ...buildSummaryDocument(build),
    failure: failureDocument(build.failure),
    solves: build.solves.map(solveDocument),
  }
}

function solveDocument(solve: SolveReport) {
  return {
    ref: solve.ref,
    outcome: buildWord(solve.outcome),
    startedAt: solve.startedAt,
    durationMs: solve.durationMs,
    error: solve.error,
    failure: failureDocument(solve.failure),
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
