/** Finds out why a solve failed, once it has: it asks those who know, and waits for them a little. */
import { statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { status as grpcStatus } from '@grpc/grpc-js'
import { describeError, HearthError } from '../../../core/errors.ts'
import type { Operation } from '../../../plan/operations.ts'
import type { Failure } from '../../../proto/generated/hearth/v1/build.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import { type ClientPart, explainFailure } from './failure.ts'
import { failureDetails } from './failure-details.ts'
import { readOomKills } from './oom-kills.ts'
import type { StepWatch } from './step-watch.ts'
import type { Reply, Upstream } from './upstream.ts'

/** BuildKit's answer, or what came instead of one. */
export type SolveAnswer = { reply: Reply } | { error: unknown }

export interface SolveFailures {
  /** The error to tell the client: for a call that BuildKit's death broke, that death; for one that we broke, why. */
  blame(error: unknown): Promise<unknown>
  /** Undefined when the solve succeeded. */
  explain(answer: SolveAnswer): Promise<Failure | undefined>
}

/** Status events trail the answer by milliseconds. */
const lastProgressMs = 200

/** A process that has died is reaped, and its log read, in milliseconds; a hung one is killed before this. */
const daemonEndMs = 3_000

export function watchFailures(
  deps: {
    daemon: DaemonHandle
    upstream: Upstream
    watch: StepWatch
    operations: () => readonly Operation[]
    /** What the client has to do with the end of its calls, asked in the moment that they end. */
    clientPart: () => ClientPart
  },
  options: {
    startedAtMs: number
    /** Of the client's Control.Solve. */
    signal: AbortSignal
    /** Aborted when the node stops the build for want of disk space, with what the client is told. */
    stopped: AbortSignal
  },
): SolveFailures {
  const { daemon, upstream, watch } = deps
  const { signal, startedAtMs, stopped } = options
  let clientPart: ClientPart = 'waited'
  const ended = (): void => {
    clientPart = deps.clientPart()
  }
  if (signal.aborted) ended()
  else signal.addEventListener('abort', ended, { once: true })

  async function explain(answer: SolveAnswer): Promise<Failure | undefined> {
    const reply = 'reply' in answer ? answer.reply : undefined
    if (reply?.status === 0) return undefined
    const by = daemon.endedBy
    const details = failureDetails(reply?.trailers ?? reply?.headers ?? {})
    // What was running is of interest as of now when the client ended it, else what came of it.
    const vertices = new Map([...watch.vertices].map(([digest, vertex]) => [digest, { ...vertex }]))
    const isOver = clientPart !== 'waited' || reply === undefined
    const [oomKills, diskFreeBytes] = await Promise.all([
      details.exitCode === undefined ? [] : readOomKills(daemon.controlGroup, startedAtMs),
      isOver ? undefined : freeBytes(daemon.stateFolder),
      isOver ? undefined : lastProgress(watch),
    ])
    return explainFailure({
      stoppedFor: stopped.aborted && clientPart === 'waited' ? stopped.reason : undefined,
      message: 'error' in answer ? describeError(answer.error) : answer.reply.statusMessage,
      isCancelled: reply?.status === grpcStatus.CANCELLED,
      details,
      clientPart,
      // What BuildKit could still answer did not end with it.
      daemonEnd:
        by === undefined || reply !== undefined ? undefined : { by, error: daemon.ended.reason },
      operations: deps.operations(),
      vertices: isOver ? vertices : watch.vertices,
      oomKills,
      diskFreeBytes,
    })
  }

  return {
    explain,
    async blame(error) {
      if (stopped.aborted && !signal.aborted) return stopped.reason
      if (signal.aborted || !(upstream.closed.aborted || daemon.ended.aborted)) return error
      await aborted(daemon.ended, daemonEndMs)
      if (!daemon.ended.aborted) return error
      const failure = await explain({ error })
      return new HearthError('unavailable', failure?.text ?? describeError(daemon.ended.reason), {
        ...(failure === undefined ? {} : { hint: failure.advice }),
        cause: daemon.ended.reason,
      })
    },
  }
}

async function aborted(signal: AbortSignal, limitMs: number): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const done = (): void => resolve()
  signal.addEventListener('abort', done, { once: true })
  await Promise.race([promise, delay(limitMs, undefined, { ref: false })])
  signal.removeEventListener('abort', done)
}

function lastProgress(watch: StepWatch): Promise<void> {
  return Promise.race([watch.ended(), delay(lastProgressMs, undefined, { ref: false })])
}

async function freeBytes(folder: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch {
    return undefined
  }
}
