/** Control.Solve of one client: builds the job and its shadow, answers, and sees the end through. */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import type { Digest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { Operation } from '../../../plan/operations.ts'
import { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import type { SolveReport } from '../../../proto/generated/hearth/v1/build.ts'
import type { Lease } from '../../scheduler/index.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import type { Mounts } from '../mounts/index.ts'
import type { Records } from '../records/index.ts'
import type { Registry } from '../registry/index.ts'
import { openCacheAccess } from './cache-access.ts'
import type { ClientPart } from './failure.ts'
import type { ExpectedSteps } from './index.ts'
import { type CallGate, serveInternalSolve } from './internal-solve.ts'
import { sendReply, signalOf } from './pass-through.ts'
import type { QuietTime } from './quiet-time.ts'
import type { ReportAhead } from './report-waits.ts'
import { createShadowBuild } from './shadow-build.ts'
import { createShadowMirror } from './shadow-mirror.ts'
import { sharedSolveFields } from './solve-edits.ts'
import { type AfterSolve, concludeSolve, endSolve } from './solve-end.ts'
import { type SolveAnswer, watchFailures } from './solve-failure.ts'
import { createSolveJob, type SolveJob } from './solve-job.ts'
import { createSolveSteps } from './solve-steps.ts'
import { createStepWatch } from './step-watch.ts'
import { connectUpstream, metadataOf, replyFor, type Upstream } from './upstream.ts'

export interface ServeSolveDeps {
  registry: Registry
  records: Records
  mounts?: Pick<Mounts, 'learn'> | undefined
  quiet: QuietTime
  daemon: DaemonHandle
  /** The client's connection to BuildKit. */
  upstream: Upstream
  /** Waits for a slot, or gives the one that the build has. */
  lease: () => Promise<Lease>
  report: (solve: SolveReport) => void
  /** For what nobody's slot, connection or client waits for. */
  after: AfterSolve
  /** What the build's plan says of its steps. */
  expected: () => ExpectedSteps | undefined
  /** Opens a report that somebody may wait for. */
  announce: () => ReportAhead
  /** Bytes from and to the client so far, whole connection. */
  traffic: () => { in: number; out: number }
  /** What the client has to do with the end of its calls, asked in the moment that they end. */
  clientPart: () => ClientPart
  log: Logger
}

export interface ServeSolveOptions {
  scope: Scope
  /** Keys of the steps that the plan names. */
  steps: ReadonlySet<Digest>
  registryHost: string
  /** Where the client's other calls find the job, by the reference the client gave it. */
  jobs: Map<string, SolveJob>
  /** What other calls of the client wait for before they go to an internal solve, by its reference. */
  gates: Map<string, CallGate>
}

/**
 * Resolves when the solve has left nothing to do, which may be long after the client has gone.
 * @param message the client's request, narrowed. Until the first wait of this function the job is known.
 */
export async function serveSolve(
  deps: ServeSolveDeps,
  down: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  message: Buffer,
  options: ServeSolveOptions,
): Promise<void> {
  const { daemon, upstream } = deps
  const signal = signalOf(down)
  const metadata = metadataOf(headers)
  const request = SolveRequest.decode(message)
  if (request.internal)
    return serveInternalSolve(deps, down, { headers, message, request }, options)
  using stack = new DisposableStack()
  const ahead = stack.use(deps.announce())
  const startedAtMs = Date.now()
  const bytesBefore = deps.traffic()
  const log = deps.log.child({ solve: request.ref })
  const cache = stack.use(openCacheAccess(deps, request, options))
  const watch = createStepWatch(stack.use(connectUpstream(daemon.socket)))
  const makeShadow = () =>
    createShadowBuild({
      socket: daemon.socket,
      session: request.session,
      sharedFields: sharedSolveFields(message),
      exportTo: cache.exportTo,
    })
  const running = stack.use(new DisposableStack())
  /** The node takes the slot back, whatever goes on: its disk is about to be full. */
  const stopped = new AbortController()
  const stop = (reason: unknown): void => {
    if (stack.disposed) return
    stopped.abort(reason)
    // Steps end when neither build wants them any more.
    job.mirror.cancel()
  }
  const takeSlot = async (): Promise<void> => {
    const lease = await deps.lease()
    // The client may have given this solve up while it waited in the queue.
    if (running.disposed) throw new HearthError('cancelled', 'the solve has ended')
    stack.use(lease.begin('solve'))
    lease.ended.addEventListener('abort', () => stop(lease.ended.reason), { once: true })
    running.use(deps.quiet.busy())
  }
  let slot: Promise<void> | undefined
  const begin = (): Promise<void> => {
    slot ??= takeSlot()
    return slot
  }
  const lessons = deps.mounts && stack.use(deps.mounts.learn(options.scope))
  const makeMirror = () =>
    createShadowMirror(makeShadow, watch, (definition) => lessons?.definition(definition))
  const operations = (): readonly Operation[] => job.mirror.operations
  const failures = watchFailures(
    { ...deps, watch, operations },
    { startedAtMs, signal, stopped: stopped.signal },
  )
  const { blame } = failures
  const stoppable = stoppableUpstream(upstream, stopped.signal)
  const jobDeps = { upstream: stoppable, cache, watch, makeMirror, begin, blame, log }
  const job: SolveJob = createSolveJob(jobDeps, message, request)
  options.jobs.set(request.ref, job)
  stack.defer(() => options.jobs.delete(request.ref))

  let answer: SolveAnswer
  try {
    answer = { reply: await job.solve(metadata, signal) }
  } catch (error) {
    answer = { error }
  }
  const conclusion = await concludeSolve({ job, watch, failures, log }, answer)
  sendReply(down, 'reply' in answer ? answer.reply : replyFor(answer.error))
  running.dispose()
  const { in: bytesIn, out: bytesOut } = deps.traffic()
  const clientBytes = { in: bytesIn - bytesBefore.in, out: bytesOut - bytesBefore.out }
  const end = { ref: request.ref, startedAtMs, answer, conclusion, clientBytes }
  const reported = (): void => ahead[Symbol.dispose]()
  const steps = createSolveSteps({
    definitions: () => job.mirror.definitions(),
    expected: deps.expected(),
  })
  const endDeps = { ...deps, job, cache, watch, steps, reported, stopped: stopped.signal, log }
  await endSolve(endDeps, end, options.scope)
}

/** Calls end with the signal, too: whoever waits for one then learns why from the signal's reason. */
function stoppableUpstream(upstream: Upstream, stopped: AbortSignal): Upstream {
  return {
    ...upstream,
    call: (path, message, { signal, ...rest }) =>
      upstream.call(path, message, { ...rest, signal: AbortSignal.any([signal, stopped]) }),
  }
}
