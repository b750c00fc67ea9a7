/**
 * What a solve leaves behind once the client has its answer: the cache that its shadow exports becomes a
 * fragment of the scope's record, and the steps become the report.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Digest } from '../../../core/digest.ts'
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import {
  BuildOutcome,
  Cause,
  type Failure,
  KeepOutcome,
  type SolveReport,
} from '../../../proto/generated/hearth/v1/build.ts'
import type { Records } from '../records/index.ts'
import type { CacheAccess } from './cache-access.ts'
import type { QuietTime } from './quiet-time.ts'
import type { SolveAnswer, SolveFailures } from './solve-failure.ts'
import type { SolveJob } from './solve-job.ts'
import { makeReport } from './solve-report.ts'
import { keysOf, type SolveSteps } from './solve-steps.ts'
import { isFinished, type StepWatch } from './step-watch.ts'

/** What goes on when a solve has left everything else: it ends soon after the signal. */
export type AfterSolve = (work: (stopping: AbortSignal) => Promise<void>) => void

export interface SolveEnd {
  readonly ref: string
  readonly startedAtMs: number
  readonly answer: SolveAnswer
  readonly conclusion: SolveConclusion
  readonly clientBytes: { in: number; out: number }
}

/** What is known of a solve, and what is left of it in BuildKit, when its client gets the answer. */
export interface SolveConclusion {
  readonly endedAtMs: number
  /** Undefined for success. */
  readonly failure: Failure | undefined
  /** Whether the shadow holds anything to export. */
  readonly isWorthKeeping: boolean
}

/** Status events trail the answer by milliseconds; a report does not wait longer for the last of them. */
const lastProgressMs = 1_000

/** Taking over what is finished takes milliseconds; what still runs, and is to be stopped, waits for it. */
const takeOverMs = 400

/** Hundreds of gigabytes at a slow disk's pace; an export that takes longer hangs, and holds a slot. */
const exportMs = 60 * 60_000

/**
 * For a failed solve: finds out why, and lets go of all but what it has finished. The client's answer waits for
 * this, for milliseconds, because BuildKit hands a failure that somebody still holds to everybody who tries again.
 * Never rejects.
 */
export async function concludeSolve(
  deps: { job: SolveJob; watch: StepWatch; failures: SolveFailures; log: Logger },
  answer: SolveAnswer,
): Promise<SolveConclusion> {
  const endedAtMs = Date.now()
  let failure: Failure | undefined
  try {
    failure = await deps.failures.explain(answer)
    const isWorthKeeping = failure === undefined || (await keepFinished(deps, failure.cause))
    return { endedAtMs, failure, isWorthKeeping }
  } catch (error) {
    deps.log.error({ error }, 'what a failed solve has finished could not be taken over')
    deps.job.mirror.cancel()
    return { endedAtMs, failure, isWorthKeeping: false }
  }
}

/**
 * Reports the solve at once, and again when its cache is kept or lost.
 * Resolves when nothing is left to do; never rejects.
 */
export async function endSolve(
  deps: {
    job: SolveJob
    cache: CacheAccess
    watch: StepWatch
    records: Records
    quiet: QuietTime
    steps: SolveSteps
    /** Aborted when the node stops what goes on, with the reason. */
    stopped: AbortSignal
    after: AfterSolve
    report: (solve: SolveReport) => void
    /** Called once the solve has been reported, or when there is nothing to report. */
    reported: () => void
    log: Logger
  },
  end: SolveEnd,
  scope: Scope,
): Promise<void> {
  const { job, cache, watch, log } = deps
  const { endedAtMs, failure, isWorthKeeping } = end.conclusion
  const outcome = outcomeOf(failure)
  const tell = (keep: KeepOutcome, keepReason: string): void => {
    const { read, kept, linked } = cache.bytes
    deps.report(
      makeReport({
        ref: end.ref,
        startedAtMs: end.startedAtMs,
        endedAtMs,
        outcome,
        error: errorOf(end.answer),
        failure,
        operations: job.mirror.operations,
        keys: keysOf(deps.steps.operations()),
        predictions: deps.steps.expected.predictions,
        vertices: watch.vertices,
        cacheBytesRead: read,
        cacheBytesKept: kept,
        cacheBytesLinked: linked,
        clientBytesIn: end.clientBytes.in,
        clientBytesOut: end.clientBytes.out,
        keep,
        keepReason,
        replayed: job.replayed,
        cacheBytesBrought: cache.bytesBrought,
        lacked: cache.lacked,
      }),
    )
  }
  try {
    const keep = isWorthKeeping ? keepCache(deps, scope) : undefined
    await Promise.race([watch.ended(), delay(lastProgressMs, undefined, { ref: false })])
    // A question to a frontend, or a probe: nothing was built and there is nothing to tell.
    if (failure === undefined && job.mirror.operations.length === 0) return
    const { KEEP_OUTCOME_NOTHING, KEEP_OUTCOME_PENDING } = KeepOutcome
    tell(isWorthKeeping ? KEEP_OUTCOME_PENDING : KEEP_OUTCOME_NOTHING, '')
    deps.reported()
    if (keep === undefined) return
    const kept = await keep
    if (kept.fragment === undefined) return tell(kept.outcome, kept.reason)
    const { fragment } = kept
    // A second place for it may take a while, and neither slot nor pins wait for that.
    deps.after(async (signal) => {
      const settled = await deps.records.settled(scope, fragment, { signal })
      tell(kept.outcome, settled.type === 'kept' ? '' : settled.reason)
    })
  } catch (error) {
    log.error({ error }, 'the end of a solve could not be recorded')
  } finally {
    deps.reported()
  }
}

const nothingLeftAfter: readonly Cause[] = [
  Cause.CAUSE_NODE_DISK_FULL,
  Cause.CAUSE_BUILDKIT_DIED,
  Cause.CAUSE_BUILDKIT_HUNG,
  Cause.CAUSE_NODE_STOPPED,
]

/**
 * Lets go of a build that came to no end, but for what it has finished: whoever tries again, wherever, need
 * not run that again.
 * @returns whether there is something to keep.
 */
async function keepFinished(
  { job, watch }: { job: SolveJob; watch: StepWatch },
  cause: Cause,
): Promise<boolean> {
  const finished = new Set<string>()
  for (const vertex of watch.vertices.values()) if (isFinished(vertex)) finished.add(vertex.digest)
  // What was all there before is kept already.
  const hasRun = job.mirror.operations.some(
    ({ kind, vertexDigest }) =>
      kind !== 'source' && finished.has(vertexDigest) && !watch.vertices.get(vertexDigest)?.cached,
  )
  if (nothingLeftAfter.includes(cause) || !hasRun) {
    job.mirror.cancel()
    return false
  }
  return job.mirror.keepFinished(finished, { limitMs: takeOverMs })
}

interface KeptCache {
  readonly outcome: KeepOutcome
  readonly reason: string
  /** Undefined unless there is one now. */
  readonly fragment?: Digest
}

/** Never rejects: the client has its answer and keeps it. */
async function keepCache(
  deps: {
    job: SolveJob
    cache: CacheAccess
    records: Records
    quiet: QuietTime
    steps: SolveSteps
    stopped: AbortSignal
    log: Logger
  },
  scope: Scope,
): Promise<KeptCache> {
  let limit: NodeJS.Timeout | undefined
  try {
    await deps.quiet.wait()
    limit = setTimeout(() => deps.job.mirror.cancel(), exportMs)
    const outcome = await deps.job.mirror.finish()
    const nothing = KeepOutcome.KEEP_OUTCOME_NOTHING
    if (outcome.type === 'nothing to export') return { outcome: nothing, reason: '' }
    if (outcome.type === 'failed') throw new HearthError('unavailable', outcome.reason)
    const exported = deps.cache.exported()
    if (exported === undefined) return { outcome: nothing, reason: 'no layer to export' }
    const { fragment } = await deps.records.keep(scope, exported, {
      operations: deps.steps.operations(),
    })
    return { outcome: KeepOutcome.KEEP_OUTCOME_KEPT, reason: '', fragment }
  } catch (error) {
    // BuildKit tells of what followed from this node's own trouble, not of the trouble.
    const cause = deps.stopped.aborted ? deps.stopped.reason : (deps.cache.trouble ?? error)
    const reason = describeError(toHearthError(cause))
    deps.log.warn({ reason }, 'the cache of a build is lost; the build itself is not affected')
    return { outcome: KeepOutcome.KEEP_OUTCOME_LOST, reason }
  } finally {
    clearTimeout(limit)
  }
}

/** Causes by which nobody had an answer. */
const lostBy: readonly Cause[] = [
  Cause.CAUSE_BUILDKIT_DIED,
  Cause.CAUSE_BUILDKIT_HUNG,
  Cause.CAUSE_CLIENT_LOST,
  Cause.CAUSE_NODE_STOPPED,
]

function outcomeOf(failure: Failure | undefined): BuildOutcome {
  if (failure === undefined) return BuildOutcome.BUILD_OUTCOME_SUCCEEDED
  if (failure.cause === Cause.CAUSE_CLIENT_CANCELLED) return BuildOutcome.BUILD_OUTCOME_CANCELLED
  return lostBy.includes(failure.cause)
    ? BuildOutcome.BUILD_OUTCOME_LOST
    : BuildOutcome.BUILD_OUTCOME_FAILED
}

function errorOf(answer: SolveAnswer): string {
  return 'error' in answer ? describeError(answer.error) : answer.reply.statusMessage
}
