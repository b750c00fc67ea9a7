/**
 * Moving a gRPC stream between client and BuildKit. Bytes are piped, so that the slower side holds the
 * faster one back; a reset on one side resets the other.
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { HearthError } from '../../../core/errors.ts'
import { grpcMessageBytesMax } from '../../../core/limits.ts'
import { createFrameReader, type Frame } from '../../../proto/wire.ts'
import { headersOf, type Reply, replyFor, type Upstream } from './upstream.ts'

/** Connects a client's stream with a new one to BuildKit, unchanged in both directions. */
export function passThrough(
  down: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  upstream: Upstream,
): void {
  let up: ReturnType<Upstream['open']>
  try {
    up = upstream.open(headers)
  } catch (error) {
    sendReply(down, replyFor(error))
    return
  }
  down.pipe(up)
  up.on('response', (_headers, flags, raw) => {
    if (down.destroyed) return
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) {
      down.respond(headersOf(raw), { endStream: true })
      return
    }
    const trailers = Promise.withResolvers<OutgoingHttpHeaders>()
    up.on('trailers', (_trailers, _flags, rawTrailers) =>
      trailers.resolve(headersOf(rawTrailers ?? [])),
    )
    up.on('close', () => trailers.resolve({}))
    down.respond(headersOf(raw), { waitForTrailers: true })
    down.on('wantTrailers', () => {
      trailers.promise.then((value) => {
        if (!down.destroyed) down.sendTrailers(value)
      })
    })
    up.pipe(down)
  })
  up.on('error', () => {}) // 'close' carries what matters.
  down.on('error', () => {})
  up.on('close', () => {
    if (up.rstCode !== constants.NGHTTP2_NO_ERROR) down.close(up.rstCode)
    else if (!down.headersSent) {
      sendReply(down, replyFor(upstream.closed.reason ?? noAnswer()))
    }
  })
  down.on('close', () => {
    if (!up.closed) up.close(down.rstCode || constants.NGHTTP2_CANCEL)
  })
}

function noAnswer(): HearthError {
  return new HearthError('unavailable', 'BuildKit did not answer')
}

/**
 * The one message of a unary request.
 * @throws HearthError `invalid-input` when it is not exactly one, `cancelled` when the client gave up,
 *   `exhausted` when it is too large.
 */
export async function readRequest(down: ServerHttp2Stream): Promise<Frame> {
  const read = createFrameReader(grpcMessageBytesMax)
  const frames: Frame[] = []
  try {
    for await (const chunk of down.iterator({ destroyOnReturn: false })) {
      frames.push(...read(chunk as Buffer))
    }
  } catch (cause) {
    if (cause instanceof HearthError) throw cause
    throw new HearthError('cancelled', 'the client ended the call', { cause })
  }
  const [frame] = frames
  if (frame === undefined || frames.length > 1) {
    throw new HearthError('invalid-input', 'a unary call carries exactly one message')
  }
  return frame
}

/** Answers a unary call with what BuildKit answered. */
export function sendReply(down: ServerHttp2Stream, reply: Reply): void {
  if (down.destroyed || down.closed) return
  const { trailers } = reply
  if (trailers === undefined) {
    down.respond(reply.headers, { endStream: true })
    return
  }
  down.respond(reply.headers, { waitForTrailers: true })
  down.on('wantTrailers', () => {
    if (!down.destroyed) down.sendTrailers(trailers)
  })
  down.end(reply.body)
}

/** A signal that aborts when the client resets the stream or its connection ends before the answer. */
export function signalOf(down: ServerHttp2Stream): AbortSignal {
  const controller = new AbortController()
  down.on('error', () => {})
  down.on('close', () => {
    // A stream that the client resets counts as finished for writing, but not as answered.
    if (down.aborted || !down.writableFinished) {
      controller.abort(new HearthError('cancelled', 'the client ended the call'))
    }
  })
  return controller.signal
}
