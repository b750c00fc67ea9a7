/**
 * The asking end of the stream road, as far as it must run on the node's event loop: a stream of the host's, whose
 * frames go on to the thread as fast as that takes them.
 */
import type { MessagePort } from 'node:worker_threads'
import { describeError } from '../../core/errors.ts'
import type { FramedStream } from '../host/index.ts'
import type { PeerStreams } from './index.ts'
import { type FromRelay, framesAheadMax, type ToRelay } from './stream-messages.ts'
import { blobProtocol, parseAnswer, type RangeRequest, writeRequest } from './stream-protocol.ts'

/** The thread watches progress much more closely; this is for a thread that is gone. */
const readMsMax = 60_000

/** Ends when the port is closed from the other side, or the stream breaks. */
export function relayStream(
  streams: Pick<PeerStreams, 'open'>,
  peerId: string,
  port: MessagePort,
): void {
  const closed = new AbortController()
  const signal = closed.signal
  let stream: FramedStream | undefined
  let ahead = 0
  let taken = Promise.withResolvers<void>()

  const say = (message: FromRelay): void => port.postMessage(message)
  const end = (error: unknown): void => {
    if (signal.aborted) return
    const reason = stream === undefined ? 'unreachable' : 'broken off'
    say({ type: 'broken', reason, message: describeError(error) })
    port.close()
  }

  async function bring(request: RangeRequest): Promise<void> {
    if (stream === undefined) throw new Error('the stream is not open yet')
    await stream.write(writeRequest(request), { signal })
    const answer = parseAnswer(await next(stream))
    if (answer === undefined) throw new Error('its answer is no answer')
    say({ type: 'answer', answer })
    if (answer.type !== 'bytes') return
    for (let left = request.end - request.start; left > 0; ) {
      const bytes = await next(stream)
      left -= bytes.length
      if (left < 0) throw new Error('it sent more than it was asked for')
      while (ahead >= framesAheadMax) await taken.promise
      ahead += 1
      // Of its own, so that it can be handed over: cloning a view would copy all that lies around it.
      const own = new Uint8Array(bytes)
      port.postMessage({ type: 'bytes', bytes: own } satisfies FromRelay, [own.buffer])
    }
  }

  async function next(from: FramedStream): Promise<Uint8Array> {
    const frame = await from.read({
      signal: AbortSignal.any([signal, AbortSignal.timeout(readMsMax)]),
    })
    if (frame === undefined) throw new Error('it ended the stream')
    return frame
  }

  port.on('message', (message: ToRelay) => {
    switch (message.type) {
      case 'ask':
        return void bring(message.request).catch(end)
      case 'taken':
        ahead -= 1
        taken.resolve()
        taken = Promise.withResolvers()
    }
  })
  port.on('close', () => {
    closed.abort()
    taken.resolve()
    stream?.abort('no longer wanted')
  })

  const open = () => streams.open(peerId, blobProtocol, { signal })
  open()
    // Of two connections that both sides have made at once, one is closed, maybe under this stream.
    .catch(open)
    .then((opened) => {
      if (signal.aborted) return opened.abort('no longer wanted')
      stream = opened
      say({ type: 'open' })
    })
    .catch(end)
}
