/**
 * Moving a gRPC stream between client and BuildKit. Bytes are piped, so that the slower side holds the
 * faster one back; a reset on one side resets the other.
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { HearthError } from '../../../core/errors.ts'
import { grpcMessageBytesMax } from '../../../core/limits.ts'
import { createFrameReader, type Frame } from '../../../proto/wire.ts'
import { headersOf, type Reply, replyFor, type Upstream } from './upstream.ts'

/**
 * Connects a client's stream with a new one to BuildKit, unchanged in both directions.
 * @param options.blame what to tell the client when BuildKit ends without an answer.
 */
export function passThrough(
  down: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  upstream: Upstream,
  options: { blame: (error: unknown) => Promise<unknown> },
): void {
  // The client may have given up while BuildKit was being started.
  if (isOver(down)) return
  // A reset that is no error leaves the stream open until all of it is read, which a paused pipe never does.
  const destroy = (): void => void down.destroy()
  down.once('aborted', destroy)
  let up: ReturnType<Upstream['open']>
  try {
    up = upstream.open(headers)
  } catch (error) {
    void refuse(error)
    return
  }
  down.pipe(up)
  up.on('response', (_headers, flags, raw) => {
    if (isOver(down)) return
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
        if (!isOver(down)) down.sendTrailers(value)
      })
    })
    up.pipe(down)
  })
  up.on('error', () => {}) // 'close' carries what matters.
  down.on('error', () => {})
  up.on('close', () => {
    if (!down.headersSent) {
      void refuse(upstream.closed.reason ?? noAnswer())
    } else if (up.rstCode !== constants.NGHTTP2_NO_ERROR) {
      // To close is to abort; and a stream that is destroyed while it closes sends no reset, so that the
      // client would wait for ever.
      down.off('aborted', destroy)
      down.close(up.rstCode)
    }
  })
  down.on('close', () => {
    if (!up.closed) up.close(down.rstCode || constants.NGHTTP2_CANCEL)
  })

  async function refuse(error: unknown): Promise<void> {
    // Nobody else takes what the client may still have to say.
    down.resume()
    sendReply(down, replyFor(await options.blame(error)))
  }
}

/** Whether nothing can be said any more. */
export function isOver(down: ServerHttp2Stream): boolean {
  return down.destroyed || down.closed
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
  let found: Frame | undefined
  try {
    for await (const chunk of down.iterator({ destroyOnReturn: false })) {
      for (const frame of read(chunk as Buffer)) {
        if (found !== undefined) throw notOneMessage()
        found = frame
      }
    }
  } catch (cause) {
    if (cause instanceof HearthError) throw cause
    throw new HearthError('cancelled', 'the client ended the call', { cause })
  }
  if (found === undefined) throw notOneMessage()
  return found
}

/**
 * The same for a request that has to be understood before BuildKit sees it.
 * @throws HearthError as `readRequest`, and `invalid-input` when it is compressed.
 */
export async function readPlainRequest(down: ServerHttp2Stream): Promise<Buffer> {
  const { message, compressed } = await readRequest(down)
  if (!compressed) return message
  throw new HearthError('invalid-input', 'compressed gRPC requests are not taken', {
    hint: 'no BuildKit client compresses them by itself',
  })
}

function notOneMessage(): HearthError {
  return new HearthError('invalid-input', 'a unary call carries exactly one message')
}

/** Answers a unary call with what BuildKit answered. */
export function sendReply(down: ServerHttp2Stream, reply: Reply): void {
  if (isOver(down)) return
  // Half an answer is out: only breaking it off tells the client that the rest will not come.
  if (down.headersSent) {
    down.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  const { trailers } = reply
  if (trailers === undefined) {
    down.respond(reply.headers, { endStream: true })
    return
  }
  down.respond(reply.headers, { waitForTrailers: true })
  down.on('wantTrailers', () => {
    if (!isOver(down)) down.sendTrailers(trailers)
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
