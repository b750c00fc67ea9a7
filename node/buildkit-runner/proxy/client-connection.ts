/** One client's HTTP/2 connection: which stream goes where. */
import { randomUUID } from 'node:crypto'
import type {
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { status as grpcStatus } from '@grpc/grpc-js'
import { describeError, toHearthError } from '../../../core/errors.ts'
import { toServiceError } from '../../../core/grpc-status.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import type { Lease } from '../../scheduler/index.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import { openCacheAccess } from './cache-access.ts'
import type { BuildProxyDeps } from './index.ts'
import { passThrough, readRequest, sendReply, signalOf } from './pass-through.ts'
import { buildIdHeader, controlSolve, controlStatus, isBridgeCall } from './paths.ts'
import { serveProgress } from './progress-stream.ts'
import { createShadowBuild } from './shadow-build.ts'
import { createShadowMirror } from './shadow-mirror.ts'
import { sharedSolveFields } from './solve-edits.ts'
import { endSolve, type SolveEnd } from './solve-end.ts'
import { createSolveJob, type SolveJob } from './solve-job.ts'
import { createStepWatch } from './step-watch.ts'
import {
  connectUpstream,
  errorReply,
  headersOf,
  type Reply,
  type Upstream,
  unavailableReply,
} from './upstream.ts'

export interface ClientConnection {
  close(): void
}

export interface ClientConnectionOptions {
  scope: Scope
  /** Undefined for a standby certificate: such a client queues for its slot here. */
  buildId: string | undefined
  registryHost: string
  /** Work that outlives the connection. */
  background: (work: Promise<void>) => void
}

export function serveConnection(
  deps: BuildProxyDeps,
  session: ServerHttp2Session,
  socket: TLSSocket,
  options: ClientConnectionOptions,
): ClientConnection {
  const { scope } = options
  const buildId = options.buildId ?? `standby-${randomUUID()}`
  const log = deps.log.child({ scope: scopeId(scope), build: buildId })
  const gone = new AbortController()
  const jobs = new Map<string, SolveJob>()
  const backgrounds = new Set<Promise<void>>()
  /** Keeps the slot of a client that has come but not yet begun. */
  const presence = deps.scheduler.find(buildId)?.begin('connection')
  let daemon: DaemonHandle | undefined

  const connected: Promise<Upstream> = deps.daemons
    .acquire(scope, { signal: gone.signal })
    .then((handle) => {
      daemon = handle
      const upstream = connectUpstream(handle.socket)
      if (gone.signal.aborted) upstream[Symbol.dispose]()
      gone.signal.addEventListener('abort', () => upstream[Symbol.dispose](), { once: true })
      return upstream
    })
  connected.catch((error) => {
    if (!gone.signal.aborted) log.error({ reason: describeError(error) }, 'no BuildKit for a build')
  })

  session.on('stream', (down, headers, _flags, raw) => {
    down.on('error', () => {}) // 'close' carries what matters.
    serveStream(down, headers, headersOf(raw)).catch((error) => {
      sendReply(down, replyFor(error))
    })
  })
  // grpc-go's parting GOAWAY can name a stream that nghttp2 never saw and is reported as an error.
  session.on('error', (error) => log.debug({ reason: error.message }, 'client connection'))
  session.on('close', () => {
    gone.abort()
    presence?.[Symbol.dispose]()
    Promise.allSettled([connected, ...backgrounds]).then(() => daemon?.[Symbol.dispose]())
  })

  async function serveStream(
    down: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: OutgoingHttpHeaders,
  ): Promise<void> {
    const path = String(headers[':path'])
    // Nothing of the stream is read before BuildKit is there: flow control makes the client wait.
    const upstream = await connected
    if (path === controlSolve) return serveSolve(down, rawHeaders, upstream)
    if (path === controlStatus) {
      return serveProgress(down, rawHeaders, upstream, {
        jobOf: (ref) => jobs.get(ref),
        isOurs: (name) => name.includes(options.registryHost),
      })
    }
    const job = jobs.get(String(headers[buildIdHeader]))
    if (job === undefined || !isBridgeCall(path)) return passThrough(down, rawHeaders, upstream)
    const { message } = await readRequest(down)
    sendReply(down, await job.bridge(path, message, metadataOf(rawHeaders), signalOf(down)))
  }

  async function serveSolve(
    down: ServerHttp2Stream,
    rawHeaders: OutgoingHttpHeaders,
    upstream: Upstream,
  ): Promise<void> {
    const { message, compressed } = await readRequest(down)
    const signal = signalOf(down)
    const request = compressed ? undefined : SolveRequest.decode(message)
    if (request === undefined || request.internal) {
      sendReply(
        down,
        await upstream.call(controlSolve, message, { headers: metadataOf(rawHeaders), signal }),
      )
      return
    }
    const solveLog = log.child({ solve: request.ref })
    const startedAtMs = Date.now()
    const bytesBefore = { in: socket.bytesRead, out: socket.bytesWritten }
    const stack = new DisposableStack()
    const cache = stack.use(openCacheAccess(deps, request, options))
    const watch = createStepWatch(stack.use(connectUpstream(socketOf(daemon))))
    let lease: Lease | undefined
    let solving: Disposable | undefined
    const job = createSolveJob(
      {
        upstream,
        cache,
        watch,
        log: solveLog,
        makeMirror: () =>
          createShadowMirror(
            () =>
              createShadowBuild({
                socket: socketOf(daemon),
                session: request.session,
                sharedFields: sharedSolveFields(message),
                exportTo: cache.exportTo,
              }),
            watch,
          ),
        begin: async () => {
          lease ??= await deps.scheduler.lease({ buildId, scope }, { signal: gone.signal })
          solving ??= lease.begin('solve')
        },
      },
      message,
      request,
    )
    jobs.set(request.ref, job)
    let answer: SolveEnd['answer']
    try {
      const reply = await job.solve(metadataOf(rawHeaders), signal)
      answer = { reply }
      sendReply(down, reply)
    } catch (error) {
      answer = { error: daemon?.ended.aborted ? daemon.ended.reason : error }
      sendReply(down, replyFor(answer.error))
    }
    const keeping = lease?.begin('keep')
    solving?.[Symbol.dispose]()
    const clientBytes = {
      in: socket.bytesRead - bytesBefore.in,
      out: socket.bytesWritten - bytesBefore.out,
    }
    inBackground(
      endSolve(
        {
          job,
          cache,
          watch,
          records: deps.records,
          report: (solve) => deps.report({ buildId, scope }, solve),
          log: solveLog,
        },
        { ref: request.ref, startedAtMs, answer, clientBytes },
        scope,
      ).finally(() => {
        jobs.delete(request.ref)
        keeping?.[Symbol.dispose]()
        stack.dispose()
      }),
    )
  }

  function inBackground(work: Promise<void>): void {
    backgrounds.add(work)
    options.background(work)
  }

  return { close: () => session.close() }
}

function socketOf(daemon: DaemonHandle | undefined): string {
  if (daemon === undefined) throw new Error('a solve is served only with a daemon')
  return daemon.socket
}

/** The client's metadata without what belongs to its own stream. */
function metadataOf(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')))
}

function replyFor(error: unknown): Reply {
  const known = toHearthError(error)
  if (known.code === 'unavailable' || known.code === 'cancelled') return unavailableReply(known)
  const { code } = toServiceError(known)
  return errorReply(code ?? grpcStatus.INTERNAL, describeError(known))
}
