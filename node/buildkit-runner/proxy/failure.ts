/**
 * Why a solve came to no good end, from what is known of it: who ended it, what BuildKit said, what its steps
 * were doing, and what the kernel and the disk say. The first of these that explains it counts.
 */
import { constants } from 'node:os'
import { HearthError } from '../../../core/errors.ts'
import { gib } from '../../../core/limits.ts'
import type { Operation } from '../../../plan/operations.ts'
import { Cause, Failure } from '../../../proto/generated/hearth/v1/build.ts'
import type { DaemonEnd } from '../daemon/index.ts'
import type { FailureDetails } from './failure-details.ts'
import type { OomKill } from './oom-kills.ts'
import type { VertexProgress } from './step-watch.ts'

/** What the client had to do with the end of its call. */
export type ClientPart = 'waited' | 'cancelled' | 'lost' | 'node stopping'

export interface FailureFacts {
  /** BuildKit's error text, or what stands in its place. */
  message: string
  /** BuildKit's own word for it. */
  isCancelled: boolean
  details: FailureDetails
  clientPart: ClientPart
  /** Why the node stopped the build to keep its disk from filling up, if it did. */
  stoppedFor?: unknown
  /** Why the daemon ended, when that is what ended the solve. */
  daemonEnd: { by: DaemonEnd; error: unknown } | undefined
  operations: readonly Operation[]
  vertices: ReadonlyMap<string, VertexProgress>
  /** Since the solve began. */
  oomKills: readonly OomKill[]
  /** Free bytes of the disk that BuildKit's state is on, right after the end; undefined when unknown. */
  diskFreeBytes: number | undefined
}

/** Below this, what had no space had none because of the node's disk. */
const diskFullBytes = gib / 2

export function explainFailure(facts: FailureFacts): Failure {
  const { clientPart, daemonEnd } = facts
  const running = facts.operations.filter(
    ({ isStep, vertexDigest }) => isStep && facts.vertices.get(vertexDigest)?.running,
  )
  const { stoppedFor } = facts
  if (clientPart === 'waited' && daemonEnd === undefined && stoppedFor === undefined) {
    return explainEnd(facts)
  }
  const during = running.length === 0 ? '' : ` during ${nameSteps(running)}`
  const at = placeOf(running[0])
  if (stoppedFor !== undefined) {
    const error = plainError(stoppedFor)
    return Failure.fromPartial({
      ...at,
      cause: Cause.CAUSE_NODE_DISK_FULL,
      text: `${oneLine(error.message)}${during}`,
      advice: error.hint ?? '',
    })
  }
  if (clientPart === 'node stopping' || daemonEnd?.by === 'stopped') {
    return Failure.fromPartial({
      ...at,
      cause: Cause.CAUSE_NODE_STOPPED,
      text: `the node was stopped${during}`,
      advice: 'build again: another node takes it, or this one when it is back',
    })
  }
  if (daemonEnd !== undefined && clientPart === 'waited') {
    const error = plainError(daemonEnd.error)
    return Failure.fromPartial({
      ...at,
      cause: daemonEnd.by === 'hung' ? Cause.CAUSE_BUILDKIT_HUNG : Cause.CAUSE_BUILDKIT_DIED,
      text: `${oneLine(error.message)}${during}`,
      advice: error.hint ?? 'build again: the next build starts a new one',
    })
  }
  return clientPart === 'lost'
    ? Failure.fromPartial({
        ...at,
        cause: Cause.CAUSE_CLIENT_LOST,
        text: `the client went away without a word${during}`,
        advice: 'if nobody ended it, look at its machine and at the network between',
      })
    : Failure.fromPartial({
        ...at,
        cause: Cause.CAUSE_CLIENT_CANCELLED,
        text: `the client cancelled the build${during}`,
      })
}

/** What BuildKit itself ended with an error. */
function explainEnd(facts: FailureFacts): Failure {
  const step = failedStep(facts)
  const { exitCode } = facts.details
  const vertex = step === undefined ? undefined : facts.vertices.get(step.vertexDigest)
  if (step === undefined || exitCode === undefined) return explainRefusal(facts, step)
  const name = nameSteps([step])
  const base = { ...placeOf(step), exitCode }
  const kill = oomKillOf(facts, vertex, exitCode)
  if (kill !== undefined || facts.message.endsWith('cannot allocate memory')) {
    const held = kill?.bytes === undefined ? '' : `, which held ${inUnits(kill.bytes)}`
    const killed = kill === undefined ? '' : `: the kernel killed "${kill.process}"${held}`
    const whose = kill?.isMachineWide ? ' when the whole machine had none left' : ''
    return Failure.fromPartial({
      ...base,
      cause: Cause.CAUSE_OUT_OF_MEMORY,
      text: `${name} ran out of memory${whose}${killed}`,
      advice: 'let it do less at a time, or give the builds of the node more memory',
    })
  }
  if (vertex?.saidNoSpace) return explainNoSpace(facts, step)
  const signal = signalOfExit(exitCode)
  if (signal !== undefined) {
    return Failure.fromPartial({
      ...base,
      cause: Cause.CAUSE_STEP_KILLED,
      text: `${name} was ended by ${signal} (exit code ${exitCode})`,
      advice: adviceFor[signal] ?? 'something in the step or on the node sent the signal',
    })
  }
  return Failure.fromPartial({
    ...base,
    cause: Cause.CAUSE_STEP_FAILED,
    text: `${name} ended with exit code ${exitCode}`,
    advice: 'its own last lines say why',
  })
}

function explainRefusal(facts: FailureFacts, step: Operation | undefined): Failure {
  // A full disk at the other end of an export is the client's.
  const isOurDisk =
    /no space left on device/i.test(facts.message) && !/receiver/.test(facts.message)
  if (isOurDisk) return explainNoSpace({ ...facts, diskFreeBytes: 0 }, step)
  const isClientGone = /no active session|session .*(closed|expired|not found)/.test(facts.message)
  if (isClientGone) {
    return Failure.fromPartial({
      ...placeOf(step),
      cause: Cause.CAUSE_CLIENT_LOST,
      text: `the client does not answer any more: ${oneLine(facts.message)}`,
    })
  }
  return Failure.fromPartial({
    ...placeOf(step),
    cause: facts.isCancelled ? Cause.CAUSE_CLIENT_CANCELLED : Cause.CAUSE_REFUSED,
    text: facts.isCancelled ? 'the client cancelled the build' : oneLine(facts.message),
  })
}

function explainNoSpace(facts: FailureFacts, step: Operation | undefined): Failure {
  const name = step === undefined ? 'the build' : nameSteps([step])
  const { diskFreeBytes } = facts
  const base = { ...placeOf(step), exitCode: facts.details.exitCode ?? 0 }
  if (diskFreeBytes !== undefined && diskFreeBytes < diskFullBytes) {
    return Failure.fromPartial({
      ...base,
      cause: Cause.CAUSE_NODE_DISK_FULL,
      text: `${name} found the node's disk full`,
      advice: 'free space on the node; "hearth cache usage" shows what the cache takes',
    })
  }
  const free =
    diskFreeBytes === undefined ? '' : `; the node's disk has ${inUnits(diskFreeBytes)} free`
  return Failure.fromPartial({
    ...base,
    cause: Cause.CAUSE_STEP_DISK_FULL,
    text: `${name} had no space left on a file system that it writes to${free}`,
    advice: 'look at the tmpfs mounts and limits of the step',
  })
}

/** By BuildKit's own word, else by what its progress says. */
function failedStep(facts: FailureFacts): Operation | undefined {
  const failed = (digest: string): boolean => {
    const error = facts.vertices.get(digest)?.error ?? ''
    return error !== '' && !/context canceled|context cancelled/.test(error)
  }
  const known = facts.operations.find(({ vertexDigest }) => vertexDigest === facts.details.vertex)
  return (
    known ?? facts.operations.find(({ isStep, vertexDigest }) => isStep && failed(vertexDigest))
  )
}

/**
 * The kill that ended this step. Exit code 137 is how it usually shows; a program that runs others may end in
 * any other way, and is believed to when no other step was running.
 */
function oomKillOf(
  facts: FailureFacts,
  vertex: VertexProgress | undefined,
  exitCode: number,
): OomKill | undefined {
  const kills = facts.oomKills.filter(
    ({ atMs }) => vertex === undefined || wasRunning(vertex, atMs),
  )
  if (exitCode === 128 + constants.signals.SIGKILL) return kills.at(-1)
  // What this step builds on was over when it began, whatever the slack of the clocks makes of it.
  const wasOver = ({ completedMs }: VertexProgress): boolean =>
    completedMs !== undefined && completedMs <= (vertex?.startedMs ?? 0)
  const others = [...facts.vertices.values()].filter(
    (other) => other !== vertex && !other.cached && !wasOver(other),
  )
  return kills.findLast(({ atMs }) => !others.some((other) => wasRunning(other, atMs)))
}

/** The kernel's log counts from the start of the machine by another clock. */
const clockSlackMs = 1_000

function wasRunning({ startedMs, completedMs }: VertexProgress, atMs: number): boolean {
  return (
    startedMs !== undefined &&
    startedMs - clockSlackMs <= atMs &&
    (completedMs ?? Number.POSITIVE_INFINITY) + clockSlackMs >= atMs
  )
}

/** How shells and runc report an end by signal. */
function signalOfExit(exitCode: number): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => exitCode === 128 + number)?.[0]
}

const adviceFor: Readonly<Record<string, string>> = {
  SIGSEGV: 'the program crashed',
  SIGBUS: 'the program crashed',
  SIGILL: 'the program was made for another processor, or crashed',
  SIGABRT: 'the program gave itself up',
  SIGKILL: 'most often the machine was out of memory; its kernel log knows',
}

/** "[build 3/5] RUN make (Dockerfile:12)" */
function nameSteps(steps: readonly Operation[]): string {
  const [first, ...others] = steps
  if (first === undefined) return 'a step'
  const { source } = first
  const place = source === undefined ? '' : ` (${source.file}:${source.firstLine})`
  const more = others.length === 0 ? '' : ` and ${others.length} more`
  return `${oneLine(first.name || first.kind, nameCharactersMax)}${place}${more}`
}

function placeOf(step: Operation | undefined) {
  return {
    step: step?.name ?? '',
    dockerfile: step?.source?.file ?? '',
    firstLine: step?.source?.firstLine ?? 0,
    lastLine: step?.source?.lastLine ?? 0,
  }
}

/** Without the last words of a daemon's log, which are many lines. */
function plainError(error: unknown): HearthError {
  const known = error instanceof HearthError ? error : new HearthError('unavailable', String(error))
  return known.cause instanceof HearthError ? known.cause : known
}

const nameCharactersMax = 100
const textCharactersMax = 300

function oneLine(text: string, charactersMax = textCharactersMax): string {
  const [line = ''] = text.trim().split('\n')
  return line.length > charactersMax ? `${line.slice(0, charactersMax - 1)}…` : line
}

/** Decimal, as the rest of Hearth counts for people. */
function inUnits(bytes: number): string {
  return bytes >= 1e10 ? `${Math.round(bytes / 1e9)} GB` : `${Math.round(bytes / 1e6)} MB`
}
