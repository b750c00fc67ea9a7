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
import { type Digest, isDigest } from '../../../core/digest.ts'
import { describeError, HearthError } from '../../../core/errors.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import { type Backend, blameBackend, holdBackend } from './backend.ts'
import {
  type CallRule,
  checkContentRead,
  checkHistoryUpdate,
  type Narrowing,
  narrowBridgeCall,
  narrowControlSolve,
  requireSession,
  ruleOf,
  serveContentRead,
  serveHistory,
} from './control-calls/index.ts'
import type { ClientPart } from './failure.ts'
import type { BuildProxyDeps } from './index.ts'
import type { CallGate } from './internal-solve.ts'
import { passThrough, readPlainRequest, sendReply, signalOf } from './pass-through.ts'
import { buildIdHeader, controlSolve, sessionIdHeader } from './paths.ts'
import { serveProgress } from './progress-stream.ts'
import type { QuietTime } from './quiet-time.ts'
import type { ReportWaits } from './report-waits.ts'
import { serveSolve } from './serve-solve.ts'
import type { AfterSolve } from './solve-end.ts'
import { connectUpstream, errorReply, headersOf, metadataOf, replyFor } from './upstream.ts'

export interface ClientConnection {
  /** Ends the connection; its builds are cancelled. */
  close(): void
  /** Resolves when the connection is closed and its solves have left nothing to do. */
  readonly finished: Promise<void>
}

export interface ClientConnectionOptions {
  scope: Scope
  /** Undefined for a standby certificate: such a client queues for its slot here. */
  buildId: string | undefined
  registryHost: string
}

interface ServedStream {
  readonly down: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: OutgoingHttpHeaders
}

export function serveConnection(
  deps: BuildProxyDeps & {
    quiet: QuietTime
    waits: ReportWaits
    narrowing: Narrowing
    after: AfterSolve
  },
  session: ServerHttp2Session,
  socket: TLSSocket,
  options: ClientConnectionOptions,
): ClientConnection {
  const { scope } = options
  const { narrowing } = deps
  const { owner } = narrowing
  const buildId = options.buildId ?? `standby-${randomUUID()}`
  const log = deps.log.child({ scope: scopeId(scope), build: buildId })
  const gone = new AbortController()
  let stopping = false
  const finished = Promise.withResolvers<void>()
  const solves = new Set<Promise<void>>()
  const gates = new Map<string, CallGate>()
  /** Keeps the slot of a client that has come but not yet begun. */
  const presence = deps.scheduler.find(buildId)?.begin('connection')
  const backend = holdBackend(connectBackend)

  async function connectBackend(): Promise<Backend> {
    // What others know of the scope comes while BuildKit starts; the solve waits for it, within limits.
    void deps.records.ready(scope, { signal: gone.signal })
    void deps.mounts?.ready(scope, { signal: gone.signal })
    const daemon = await acquireDaemon()
    const upstream = connectUpstream(daemon.socket)
    gone.signal.addEventListener('abort', () => upstream[Symbol.dispose](), { once: true })
    if (gone.signal.aborted) upstream[Symbol.dispose]()
    return { daemon, upstream }
  }

  async function acquireDaemon(): Promise<DaemonHandle> {
    try {
      return await deps.daemons.acquire(scope, { signal: gone.signal })
    } catch (error) {
      if (!gone.signal.aborted) {
        log.error({ reason: describeError(error) }, 'no BuildKit for a build')
      }
      throw error
    }
  }

  session.on('stream', (down, headers, _flags, raw) => {
    down.on('error', () => {}) // 'close' carries what matters.
    const serving = serveStream(down, headers, headersOf(raw)).catch((error) =>
      sendReply(down, replyFor(error)),
    )
    if (headers[':path'] === controlSolve) {
      solves.add(serving)
      void serving.finally(() => solves.delete(serving))
    }
  })
  // grpc-go's parting GOAWAY can name a stream that nghttp2 never saw, which counts as an error here.
  session.on('error', (error) => log.debug({ reason: error.message }, 'client connection'))
  session.on('close', () => {
    gone.abort()
    presence?.[Symbol.dispose]()
    void finish()
  })

  async function finish(): Promise<void> {
    await Promise.allSettled(solves)
    await backend.release()
    finished.resolve()
  }

  async function serveStream(
    down: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: OutgoingHttpHeaders,
  ): Promise<void> {
    const path = String(headers[':path'])
    const rule = ruleOf(path)
    if (rule === undefined) {
      sendReply(down, errorReply(grpcStatus.UNIMPLEMENTED, `Hearth does not pass ${path} on`))
      return
    }
    if (rule.type === 'refused') {
      throw new HearthError('forbidden', rule.reason, { hint: rule.remedy })
    }
    // Nothing of the stream is read before BuildKit is there: flow control makes the client wait.
    const held = await backend.get({ isQuestion: rule.type === 'passed' })
    try {
      await serveCall(rule, held, { down, headers, rawHeaders })
    } catch (error) {
      throw await blameBackend(held, error)
    }
  }

  async function serveCall(
    rule: Exclude<CallRule, { type: 'refused' }>,
    held: Backend,
    { down, headers, rawHeaders }: ServedStream,
  ): Promise<void> {
    const path = String(headers[':path'])
    const { daemon, upstream } = held
    const blame = (error: unknown): Promise<unknown> => blameBackend(held, error)
    const pass = (): void => passThrough(down, rawHeaders, upstream, { blame })
    const call = async (message: Buffer): Promise<void> => {
      const call = { headers: metadataOf(rawHeaders), signal: signalOf(down) }
      sendReply(down, await upstream.call(path, message, call))
    }
    switch (rule.type) {
      case 'passed':
        return pass()
      case 'solve': {
        const solveDeps = {
          ...deps,
          daemon,
          upstream,
          lease: () => deps.scheduler.lease({ buildId, scope }, { signal: gone.signal }),
          expected: () => deps.expected?.(buildId),
          announce: () => deps.waits.announce(buildId),
          report: (solve: Parameters<typeof deps.report>[1]) =>
            deps.report({ buildId, scope }, solve),
          traffic: () => ({ in: socket.bytesRead, out: socket.bytesWritten }),
          clientPart: () => partOf(socket, stopping),
          log,
        }
        const plain = await readPlainRequest(down)
        await deps.records.ready(scope, { steps: expectedSteps(), signal: gone.signal })
        const message = narrowControlSolve(narrowing, plain)
        return serveSolve(solveDeps, down, rawHeaders, message, {
          ...options,
          steps: expectedSteps(),
          jobs: owner.jobs,
          gates,
        })
      }
      case 'progress':
        return serveProgress(down, rawHeaders, upstream, {
          admit: (ref) => requireRef(ref, down),
          jobOf: (ref) => owner.jobs.get(ref),
          isOurs: (vertexName) => vertexName.includes(options.registryHost),
        })
      case 'session':
        requireSession(narrowing, requireOne(headers, sessionIdHeader))
        return pass()
      case 'history':
        return serveHistory(owner, down, upstream, {
          headers: rawHeaders,
          message: await readPlainRequest(down),
        })
      case 'history update': {
        const message = await readPlainRequest(down)
        checkHistoryUpdate(owner, message)
        return call(message)
      }
      case 'content info': {
        const message = await readPlainRequest(down)
        checkContentRead(owner, message)
        return call(message)
      }
      case 'content read':
        return serveContentRead(owner, down, upstream, {
          headers: rawHeaders,
          message: await readPlainRequest(down),
        })
      case 'bridge': {
        const ref = requireOne(headers, buildIdHeader)
        const message = narrowBridgeCall(narrowing, path, await readPlainRequest(down))
        await requireRef(ref, down)
        const job = owner.jobs.get(ref)
        // Internal solves have no job.
        await gates.get(ref)?.(path, message)
        if (job === undefined) return call(message)
        sendReply(down, await job.bridge(path, message, metadataOf(rawHeaders), signalOf(down)))
        return
      }
      case 'bridge stream': {
        const ref = requireOne(headers, buildIdHeader)
        await requireRef(ref, down)
        const upstreamRef = owner.jobs.get(ref)?.upstreamRef ?? ref
        const renamed = { ...rawHeaders, [buildIdHeader]: upstreamRef }
        return passThrough(down, renamed, upstream, { blame })
      }
    }
  }

  function expectedSteps(): ReadonlySet<Digest> {
    return new Set([...(deps.expected?.(buildId)?.predictions.keys() ?? [])].filter(isDigest))
  }

  /** @throws HearthError `not-found` when the owner has no such solve and none comes. */
  async function requireRef(ref: string, down: ServerHttp2Stream): Promise<void> {
    if (await owner.awaitRef(ref, { signal: signalOf(down) })) return
    throw new HearthError('not-found', 'this build has no such solve')
  }

  return {
    close: () => {
      stopping = true
      session.close()
      session.destroy()
    },
    finished: finished.promise,
  }
}

/** Who gives a call up resets it; a connection that ends first was left without a word. */
function partOf(socket: TLSSocket, stopping: boolean): ClientPart {
  if (stopping) return 'node stopping'
  return socket.readableEnded || socket.destroyed ? 'lost' : 'cancelled'
}

/** @throws HearthError `invalid-input` when the metadata does not stand there exactly once. */
function requireOne(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name]
  // Node joins what stands twice; no id has a comma.
  if (typeof value === 'string' && value !== '' && !value.includes(',')) return value
  throw new HearthError('invalid-input', `the call needs one ${name}`)
}
