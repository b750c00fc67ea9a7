/** A streaming reply of BuildKit's, looked through message by message on its way to the client. */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { HearthError } from '../../../../core/errors.ts'
import { grpcMessageBytesMax } from '../../../../core/limits.ts'
import { createFrameReader, frameMessage } from '../../../../proto/wire.ts'
import { isOver, sendReply } from '../pass-through.ts'
import { headersOf, replyFor, type Upstream } from '../upstream.ts'

/**
 * Resolves when the reply has ended, or the client has gone.
 * @param look gets each message and answers with what the client is to have of it, if anything.
 */
export async function forwardReplies(
  down: ServerHttp2Stream,
  upstream: Upstream,
  request: { headers: OutgoingHttpHeaders; message: Uint8Array },
  look: (message: Buffer) => Uint8Array | undefined,
): Promise<void> {
  if (isOver(down)) return
  const up = upstream.open(request.headers)
  const cancel = (): void => up.close(constants.NGHTTP2_CANCEL)
  down.once('close', cancel)
  down.once('aborted', cancel)
  let trailers: OutgoingHttpHeaders = {}
  up.on('response', (_headers, flags, raw) => {
    if (isOver(down)) return
    const endStream = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
    down.respond(headersOf(raw), endStream ? { endStream } : { waitForTrailers: true })
  })
  up.on('trailers', (_trailers, _flags, raw) => {
    trailers = headersOf(raw ?? [])
  })
  up.on('error', () => {}) // The loop below ends.
  down.on('wantTrailers', () => {
    if (!isOver(down)) down.sendTrailers(trailers)
  })
  up.end(frameMessage(request.message))
  const read = createFrameReader(grpcMessageBytesMax)
  try {
    for await (const chunk of up) {
      for (const { message, compressed } of read(chunk as Buffer)) {
        if (compressed)
          throw new HearthError('internal', 'BuildKit compressed what it was not asked to')
        const kept = look(message)
        if (kept === undefined || isOver(down)) continue
        if (!down.write(frameMessage(kept))) await writable(down)
      }
    }
  } catch (error) {
    cancel()
    sendReply(down, replyFor(error))
    return
  }
  if (isOver(down)) return
  if (!down.headersSent) {
    sendReply(down, replyFor(new HearthError('unavailable', 'BuildKit did not answer')))
  } else if (up.rstCode !== constants.NGHTTP2_NO_ERROR) down.close(up.rstCode)
  else down.end()
}

/** Resolves when the client has taken what was written, or is gone. */
function writable(down: ServerHttp2Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  down.once('drain', resolve)
  down.once('close', resolve)
  return promise
}
