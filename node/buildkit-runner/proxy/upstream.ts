/**
 * One HTTP/2 connection to a buildkitd. gRPC calls over it are bytes in and bytes out: what BuildKit
 * answers reaches the client as it was sent, status details and unknown metadata included.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { status as grpcStatus } from '@grpc/grpc-js'
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import { toServiceError } from '../../../core/grpc-status.ts'
import { grpcMessageBytesMax } from '../../../core/limits.ts'
import { frameMessage } from '../../../proto/wire.ts'

/** Wide enough that a context of 1 GB/s over loopback is not held up by window updates. */
export const streamWindowBytes = 8 * 1024 * 1024
export const connectionWindowBytes = 64 * 1024 * 1024
/** Node counts what the windows let in against this (in MB, 10 by default) and refuses new streams beyond it. */
export const sessionMemoryMegabytes = 128

/** Metadata of a call; a name that stands more than once has a list of values. */
export type Headers = OutgoingHttpHeaders

export interface Upstream extends Disposable {
  /** Aborted when the connection is gone. */
  readonly closed: AbortSignal
  /** Opens a stream; the caller writes the request and ends it. */
  open(headers: OutgoingHttpHeaders): ClientHttp2Stream
  /** One request, one reply. Rejects only when the stream broke; a gRPC error is a reply. */
  call(
    path: string,
    message: Uint8Array,
    options: { headers?: OutgoingHttpHeaders; signal: AbortSignal },
  ): Promise<Reply>
}

/** What a unary call came to, as it stands on the wire. */
export interface Reply {
  /** gRPC status code; 0 is success. */
  readonly status: number
  readonly statusMessage: string
  readonly headers: OutgoingHttpHeaders
  /** Undefined when BuildKit answered with trailers alone. */
  readonly trailers: OutgoingHttpHeaders | undefined
  /** Framed messages. */
  readonly body: Buffer
}

export function connectUpstream(socket: string): Upstream {
  const closed = new AbortController()
  const session = connect('http://buildkitd', {
    createConnection: () => connectSocket(socket),
    maxSessionMemory: sessionMemoryMegabytes,
    settings: { initialWindowSize: streamWindowBytes, enablePush: false },
  })
  // It may have been given up before it was connected.
  session.on('connect', () => {
    if (!session.destroyed) session.setLocalWindowSize(connectionWindowBytes)
  })
  const end = (cause?: unknown): void => {
    closed.abort(new HearthError('unavailable', 'the connection to BuildKit is gone', { cause }))
  }
  session.on('error', end)
  session.on('close', () => end())
  return {
    closed: closed.signal,
    open: (headers) => openStream(session, headers),
    call: (path, message, { headers, signal }) =>
      callOnce(openStream(session, { ...grpcHeaders(path), ...headers }), message, signal),
    [Symbol.dispose]: () => session.destroy(),
  }
}

function grpcHeaders(path: string): OutgoingHttpHeaders {
  return { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
}

function openStream(session: ClientHttp2Session, headers: OutgoingHttpHeaders): ClientHttp2Stream {
  if (session.closed || session.destroyed) {
    throw new HearthError('unavailable', 'the connection to BuildKit is gone')
  }
  return session.request(headers, { endStream: false })
}

function callOnce(
  stream: ClientHttp2Stream,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    let headers: OutgoingHttpHeaders = {}
    let trailers: OutgoingHttpHeaders | undefined
    const cancel = (): void => stream.close(constants.NGHTTP2_CANCEL)
    signal.addEventListener('abort', cancel, { once: true })
    stream.on('response', (_headers, _flags, raw) => {
      headers = headersOf(raw)
    })
    stream.on('trailers', (_headers, _flags, raw) => {
      trailers = headersOf(raw ?? [])
    })
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > 2 * grpcMessageBytesMax) stream.close(constants.NGHTTP2_CANCEL)
    })
    stream.on('error', () => {}) // 'close' follows and settles.
    stream.on('close', () => {
      signal.removeEventListener('abort', cancel)
      const status = statusOf(trailers ?? headers)
      if (status === undefined || signal.aborted) reject(brokenCall(stream, signal))
      else resolve({ ...status, headers, trailers, body: Buffer.concat(chunks) })
    })
    if (signal.aborted) cancel()
    else stream.end(frameMessage(message))
  })
}

function brokenCall(stream: ClientHttp2Stream, signal: AbortSignal): HearthError {
  if (signal.aborted) {
    return new HearthError('cancelled', 'the call was cancelled', { cause: signal.reason })
  }
  return new HearthError('unavailable', `BuildKit ended a call early (HTTP/2 ${stream.rstCode})`)
}

function statusOf(
  headers: IncomingHttpHeaders | OutgoingHttpHeaders,
): { status: number; statusMessage: string } | undefined {
  const code = headers['grpc-status']
  if (code === undefined) return undefined
  const text = String(headers['grpc-message'] ?? '')
  return { status: Number(code), statusMessage: decodePercent(text) }
}

/** gRPC percent-encodes status messages; a stray percent sign is left as it is. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/**
 * Headers from their raw form, because Node joins repeated ones with commas, and BuildKit's session
 * announces its methods as one repeated header.
 */
export function headersOf(raw: readonly string[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {}
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string
    const value = raw[index + 1] as string
    const known = headers[name]
    if (known === undefined) headers[name] = value
    else headers[name] = Array.isArray(known) ? [...known, value] : [known, value]
  }
  return headers
}

/** A reply of our own, for when BuildKit cannot answer or is not to be asked. */
export function errorReply(code: number, message: string): Reply {
  return {
    status: code,
    statusMessage: message,
    headers: {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(code),
      'grpc-message': percentEncoded(message),
    },
    trailers: undefined,
    body: Buffer.alloc(0),
  }
}

/** As gRPC wants status messages: what is not printable ASCII, and the percent sign itself. */
function percentEncoded(message: string): string {
  return message.toWellFormed().replaceAll(/[^ -$&-~]/gu, encodeURIComponent)
}

/** What the client is told when an error of ours stands in for BuildKit's answer. */
export function replyFor(error: unknown): Reply {
  const known = toHearthError(error)
  const { code } = toServiceError(known)
  return errorReply(code ?? grpcStatus.INTERNAL, describeError(known))
}

/** The client's metadata without the pseudo-headers of its own stream. */
export function metadataOf(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')))
}
