/** One client's HTTP/2 connection: which stream goes where. */
import { randomUUID } from 'node:crypto'
import type {
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { describeError } from '../../../core/errors.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { DaemonHandle } from '../daemon/index.ts'
import type { BuildProxyDeps } from './index.ts'
import { passThrough, readRequest, sendReply, signalOf } from './pass-through.ts'
import { buildIdHeader, controlSolve, controlStatus, isBridgeCall } from './paths.ts'
import { serveProgress } from './progress-stream.ts'
import type { QuietTime } from './quiet-time.ts'
import type { ReportWaits } from './report-waits.ts'
import { serveSolve } from './serve-solve.ts'
import type { SolveJob } from './solve-job.ts'
import { connectUpstream, headersOf, metadataOf, replyFor, type Upstream } from './upstream.ts'

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

interface Backend {
  daemon: DaemonHandle
  upstream: Upstream
}

export function serveConnection(
  deps: BuildProxyDeps & { quiet: QuietTime; waits: ReportWaits },
  session: ServerHttp2Session,
  socket: TLSSocket,
  options: ClientConnectionOptions,
): ClientConnection {
  const { scope } = options
  const buildId = options.buildId ?? `standby-${randomUUID()}`
  const log = deps.log.child({ scope: scopeId(scope), build: buildId })
  const gone = new AbortController()
  const finished = Promise.withResolvers<void>()
  const jobs = new Map<string, SolveJob>()
  const solves = new Set<Promise<void>>()
  /** Keeps the slot of a client that has come but not yet begun. */
  const presence = deps.scheduler.find(buildId)?.begin('connection')
  const backend = connectBackend()

  async function connectBackend(): Promise<Backend> {
    const daemon = await deps.daemons.acquire(scope, { signal: gone.signal })
    const upstream = connectUpstream(daemon.socket)
    gone.signal.addEventListener('abort', () => upstream[Symbol.dispose](), { once: true })
    if (gone.signal.aborted) upstream[Symbol.dispose]()
    return { daemon, upstream }
  }
  backend.catch((error) => {
    if (!gone.signal.aborted) log.error({ reason: describeError(error) }, 'no BuildKit for a build')
  })

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
    const [connected] = await Promise.allSettled([backend, ...solves])
    if (connected.status === 'fulfilled') connected.value.daemon[Symbol.dispose]()
    finished.resolve()
  }

  async function serveStream(
    down: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    rawHeaders: OutgoingHttpHeaders,
  ): Promise<void> {
    // Nothing of the stream is read before BuildKit is there: flow control makes the client wait.
    const { daemon, upstream } = await backend
    const path = String(headers[':path'])
    if (path === controlSolve) {
      const solveDeps = {
        ...deps,
        daemon,
        upstream,
        lease: () => deps.scheduler.lease({ buildId, scope }, { signal: gone.signal }),
        announce: () => deps.waits.announce(buildId),
        report: (solve: Parameters<typeof deps.report>[1]) =>
          deps.report({ buildId, scope }, solve),
        traffic: () => ({ in: socket.bytesRead, out: socket.bytesWritten }),
        log,
      }
      return serveSolve(solveDeps, down, rawHeaders, { ...options, jobs })
    }
    if (path === controlStatus) {
      return serveProgress(down, rawHeaders, upstream, {
        jobOf: (ref) => jobs.get(ref),
        isOurs: (vertexName) => vertexName.includes(options.registryHost),
      })
    }
    const job = jobs.get(String(headers[buildIdHeader]))
    if (job === undefined || !isBridgeCall(path)) return passThrough(down, rawHeaders, upstream)
    const { message } = await readRequest(down)
    sendReply(down, await job.bridge(path, message, metadataOf(rawHeaders), signalOf(down)))
  }

  return {
    close: () => {
      session.close()
      session.destroy()
    },
    finished: finished.promise,
  }
}
