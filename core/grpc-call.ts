/** The client's side of gRPC calls: promises and async iterables, each with a deadline and a signal. */
import {
  type CallOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import { HearthError } from './errors.ts'
import { fromServiceError } from './grpc-status.ts'
import { callTimeoutMs, grpcMessageBytesMax } from './limits.ts'

/** For every client: bounded messages, a dead peer noticed within 20 s, and quick tries to come back. */
export const channelOptions = {
  'grpc.max_receive_message_length': grpcMessageBytesMax,
  'grpc.max_send_message_length': grpcMessageBytesMax,
  'grpc.keepalive_time_ms': 15_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 5_000,
  'grpc.enable_retries': 0,
  // A TXT query per name and a detour through somebody's web proxy are worth nothing here.
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_http_proxy': 0,
} as const

/** For every server: bounded messages, and a caller that is dead noticed within 20 s. */
export const serverOptions = {
  'grpc.max_receive_message_length': grpcMessageBytesMax,
  'grpc.max_send_message_length': grpcMessageBytesMax,
  'grpc.keepalive_time_ms': 15_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.max_concurrent_streams': 1_000,
} as const

export interface CallSettings {
  /** Default: `callTimeoutMs`. */
  timeoutMs?: number
  metadata?: Metadata
  signal: AbortSignal
}

/**
 * One unary call, for example
 * `callUnary('list the nodes', (m, o, done) => client.listNodes({}, m, o, done), { signal })`.
 * @param doing for the message: "cannot list the nodes: …".
 * @throws HearthError with the code that the server sent, `deadline`, `unavailable` or `cancelled`.
 */
export function callUnary<Reply>(
  doing: string,
  start: (
    metadata: Metadata,
    options: Partial<CallOptions>,
    done: (error: ServiceError | null, reply: Reply) => void,
  ) => ClientUnaryCall,
  settings: CallSettings,
): Promise<Reply> {
  const { signal } = settings
  if (signal.aborted) return Promise.reject(cancelled(doing, signal))
  return new Promise((resolve, reject) => {
    const call = start(
      settings.metadata ?? new Metadata(),
      { deadline: Date.now() + (settings.timeoutMs ?? callTimeoutMs) },
      (error, reply) => {
        signal.removeEventListener('abort', cancel)
        if (error === null) resolve(reply)
        else if (signal.aborted) reject(cancelled(doing, signal))
        else reject(fromServiceError(error, doing))
      },
    )
    const cancel = () => call.cancel()
    signal.addEventListener('abort', cancel, { once: true })
  })
}

/**
 * The events of one server-streaming call. Leaving the loop cancels the call.
 * @throws HearthError as `callUnary` does.
 */
export async function* callStream<Event>(
  doing: string,
  start: (metadata: Metadata, options: Partial<CallOptions>) => ClientReadableStream<Event>,
  settings: CallSettings & { timeoutMs: number },
): AsyncGenerator<Event, void, void> {
  const { signal } = settings
  if (signal.aborted) throw cancelled(doing, signal)
  const stream = start(settings.metadata ?? new Metadata(), {
    deadline: Date.now() + settings.timeoutMs,
  })
  const cancel = () => stream.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  try {
    for await (const event of stream as AsyncIterable<Event>) yield event
  } catch (error) {
    if (signal.aborted) throw cancelled(doing, signal)
    throw fromServiceError(error, doing)
  } finally {
    signal.removeEventListener('abort', cancel)
    // The stream of a cancelled call still reports CANCELLED, and nobody is left to hear it.
    stream.on('error', () => {})
    stream.cancel()
  }
}

function cancelled(doing: string, signal: AbortSignal): HearthError {
  return signal.reason instanceof HearthError
    ? signal.reason
    : new HearthError('cancelled', `gave up: ${doing}`, { cause: signal.reason })
}
