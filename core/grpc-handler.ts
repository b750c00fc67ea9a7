/**
 * The server's side of gRPC calls. A handler is an async function or generator; whatever it throws becomes
 * a status, and nothing it throws reaches the process.
 */
import { once } from 'node:events'
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js'
import { HearthError, toHearthError } from './errors.ts'
import { toServiceError } from './grpc-status.ts'
import { type Identity, identityOfCertificate } from './identity.ts'
import { callTimeoutMs } from './limits.ts'
import type { Logger } from './log.ts'

export interface CallContext {
  readonly metadata: Metadata
  /** Aborted when the caller has gone or the time is over. */
  readonly signal: AbortSignal
  /** When the caller stops waiting, in ms since 1970; Infinity when it did not say. */
  readonly deadlineAtMs: number
  /** Who the caller's verified certificate speaks for; undefined when it showed none that is valid here. */
  readonly identity: Identity | undefined
}

export interface HandlerOptions {
  log: Logger
  /** Default: `callTimeoutMs`. A deadline of the caller's own may end the call earlier. */
  timeoutMs?: number
}

export function unaryHandler<Request, Reply>(
  options: HandlerOptions,
  handle: (request: Request, context: CallContext) => Promise<Reply> | Reply,
): handleUnaryCall<Request, Reply> {
  return (call, done) => {
    const lifetime = watchCall(call, options.timeoutMs ?? callTimeoutMs)
    const answer = async () => handle(call.request, contextOf(call, lifetime.signal))
    orAborted(answer(), lifetime.signal)
      .then(
        (reply) => done(null, reply),
        (error: unknown) => done(failed(options.log, call.getPath(), error)),
      )
      .finally(lifetime.end)
      .catch((error: unknown) => options.log.error({ error }, 'cannot answer a call'))
  }
}

/** The generator is ended, and its `finally` blocks run, as soon as the caller has gone. */
export function streamHandler<Request, Event>(
  options: HandlerOptions & { timeoutMs: number },
  handle: (request: Request, context: CallContext) => AsyncIterable<Event>,
): handleServerStreamingCall<Request, Event> {
  return (call) => {
    const lifetime = watchCall(call, options.timeoutMs)
    sendEvents(call, lifetime.signal, () => handle(call.request, contextOf(call, lifetime.signal)))
      .then(
        () => call.end(),
        (error: unknown) => call.emit('error', failed(options.log, call.getPath(), error)),
      )
      .finally(lifetime.end)
      .catch((error: unknown) => options.log.error({ error }, 'cannot answer a call'))
  }
}

async function sendEvents<Event>(
  call: ServerWritableStream<unknown, Event>,
  signal: AbortSignal,
  events: () => AsyncIterable<Event>,
): Promise<void> {
  for await (const event of events()) {
    signal.throwIfAborted()
    if (!call.write(event)) await once(call, 'drain', { signal })
  }
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>

function watchCall(call: AnyCall, timeoutMs: number): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController()
  const timer = setTimeout(
    () => controller.abort(new HearthError('deadline', `no answer within ${timeoutMs / 1000} s`)),
    timeoutMs,
  )
  const gone = () => controller.abort(new HearthError('cancelled', 'the caller has gone'))
  if (call.cancelled) gone()
  else call.once('cancelled', gone)
  return { signal: controller.signal, end: () => clearTimeout(timer) }
}

/** A handler that overlooks its signal must not keep its caller waiting. */
function orAborted<Reply>(reply: Promise<Reply>, signal: AbortSignal): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    reply.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function contextOf(call: AnyCall, signal: AbortSignal): CallContext {
  return {
    metadata: call.metadata,
    signal,
    deadlineAtMs: Number(call.getDeadline()),
    identity: identityOf(call),
  }
}

function identityOf(call: AnyCall): Identity | undefined {
  // Filled by grpc-js only when the certificate has been verified against our authority.
  const certificate = call.getAuthContext().sslPeerCertificate
  if (certificate === undefined) return undefined
  try {
    return identityOfCertificate(certificate.subjectaltname)
  } catch {
    return undefined
  }
}

function failed(log: Logger, path: string, thrown: unknown): ReturnType<typeof toServiceError> {
  const error = toHearthError(thrown)
  if (error.code === 'internal') log.error({ error: thrown, call: path }, 'a call failed')
  else if (error.code !== 'cancelled') {
    log.debug({ call: path, code: error.code, reason: error.message }, 'a call was refused')
  }
  return toServiceError(error)
}
