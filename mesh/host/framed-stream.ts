/**
 * Messages with a length in front over a libp2p stream, with back-pressure in both directions.
 *
 * A killed peer's streams close without an error, so a message counts only when it is whole. What libp2p does
 * with slow sides (3.3.11, @libp2p/utils 7.4.1) decides how this is written: `onDrain()` never resolves again
 * after its first time, so the events are awaited; `for await` and a paused stream without limits hold all
 * that comes, so a bounded amount is read ahead and the window stays below what libp2p's buffer takes;
 * `send`, `pause` and `resume` throw on a stream that has closed meanwhile.
 */
import type { Stream, StreamCloseEvent } from '@libp2p/interface'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { frameBytesMax, readAheadBytes, writeStallMs } from '../limits.ts'
import { createFrameQueue } from './frame-queue.ts'

export interface FramedStream {
  /**
   * Resolves when the stream takes more.
   * @throws HearthError `unavailable` when the stream has ended, `deadline` when nothing moves, `cancelled`
   */
  write(frame: Uint8Array, options: { signal: AbortSignal }): Promise<void>
  /**
   * The next message, or undefined when the peer has ended the stream after its last one.
   * @throws HearthError `unavailable` when it ended otherwise, `corrupt` inside a message, `cancelled`
   */
  read(options: { signal: AbortSignal }): Promise<Uint8Array | undefined>
  /** Ends our side after what was written; the peer's may still come. */
  close(): Promise<void>
  /** Ends both sides at once. */
  abort(reason: string): void
  /** Aborted when the stream has ended, however. */
  readonly ended: AbortSignal
}

export interface FramedStreamOptions {
  /** Default: limits.ts. */
  frameBytesMax?: number
  writeStallMs?: number
}

const lengthBytes = 4

/** Must be called in the turn that the stream came in: messages that nobody listens for pile up. */
export function frameStream(stream: Stream, options: FramedStreamOptions = {}): FramedStream {
  const bytesMax = options.frameBytesMax ?? frameBytesMax
  const stallMs = options.writeStallMs ?? writeStallMs
  const queue = createFrameQueue(bytesMax)
  const ended = new AbortController()
  let endOfPeer: { error: Error | undefined } | undefined
  let wake = Promise.withResolvers<void>()
  let lastWrite = Promise.resolve()

  const arrived = () => {
    wake.resolve()
    wake = Promise.withResolvers()
  }
  const endWith = (error: Error | undefined) => {
    endOfPeer ??= { error }
    arrived()
  }
  stream.addEventListener('message', (event) => {
    queue.push(event.data.subarray())
    if (queue.bytes > readAheadBytes && stream.readStatus === 'readable') stream.pause()
    arrived()
  })
  stream.addEventListener('end', () => endWith(undefined))
  stream.addEventListener('close', (event) => {
    endWith(event.error)
    ended.abort()
  })
  // It may have ended before anybody listened. After the messages that listening sets free.
  queueMicrotask(() => {
    if (stream.readableEnded) endWith(undefined)
    if (stream.status === 'open' || stream.status === 'closing') return
    endWith(stream.status === 'closed' ? undefined : new Error(`it was ${stream.status}`))
    ended.abort()
  })

  function letMoreIn(): void {
    if (stream.readStatus === 'paused' && queue.bytes <= readAheadBytes / 2) stream.resume()
  }

  async function send(frame: Uint8Array, signal: AbortSignal): Promise<void> {
    const head = Buffer.alloc(lengthBytes)
    head.writeUInt32BE(frame.length)
    checkOpen(signal)
    let mayGoOn: boolean
    try {
      mayGoOn = stream.send(Buffer.concat([head, frame]))
    } catch (cause) {
      throw new HearthError('unavailable', 'the stream of the peer has ended', { cause })
    }
    while (!mayGoOn) {
      await drained(stream, stallMs, signal)
      checkOpen(signal)
      mayGoOn = !stream.writableNeedsDrain
    }
  }

  function checkOpen(signal: AbortSignal): void {
    signal.throwIfAborted()
    if (ended.signal.aborted || stream.writeStatus !== 'writable') {
      throw new HearthError('unavailable', 'the stream of the peer has ended')
    }
  }

  return {
    ended: ended.signal,
    async write(frame, { signal }) {
      if (frame.length > bytesMax) throw new Error(`a message of ${frame.length} bytes is too long`)
      // One after the other: each waits until the stream takes more.
      const turn = lastWrite.then(() => send(frame, signal))
      lastWrite = turn.catch(() => {})
      try {
        await turn
      } catch (error) {
        throw signal.aborted ? cancelled(error) : toHearthError(error)
      }
    },
    async read({ signal }) {
      for (;;) {
        if (signal.aborted) throw cancelled(signal.reason)
        const frame = queue.next()
        letMoreIn()
        if (frame !== undefined) return frame
        if (endOfPeer !== undefined) {
          const { error } = endOfPeer
          if (error !== undefined) {
            throw new HearthError('unavailable', `the stream broke off: ${error.message}`)
          }
          if (queue.bytes > 0) throw new HearthError('corrupt', 'the stream ended inside a message')
          return undefined
        }
        await eitherOf(wake.promise, signal)
      }
    },
    async close() {
      try {
        await stream.close({ signal: AbortSignal.timeout(stallMs) })
      } catch (error) {
        stream.abort(toHearthError(error))
      }
    },
    abort(reason) {
      stream.abort(new Error(reason))
    },
  }
}

/** Waits for the next `drain` or `close`. */
async function drained(stream: Stream, stallMs: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onClose = (event: StreamCloseEvent) =>
    reject(new HearthError('unavailable', 'the stream broke off', { cause: event.error }))
  const onDrain = () => resolve()
  const onAbort = () => reject(toHearthError(signal.reason))
  const timer = setTimeout(() => {
    reject(new HearthError('deadline', `the peer took nothing for ${stallMs / 1_000} s`))
    stream.abort(new Error('the peer takes nothing'))
  }, stallMs)
  stream.addEventListener('drain', onDrain)
  stream.addEventListener('close', onClose)
  signal.addEventListener('abort', onAbort)
  try {
    await promise
  } finally {
    clearTimeout(timer)
    stream.removeEventListener('drain', onDrain)
    stream.removeEventListener('close', onClose)
    signal.removeEventListener('abort', onAbort)
  }
}

/** Resolves with the event or the signal. */
async function eitherOf(event: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const onAbort = () => resolve()
  signal.addEventListener('abort', onAbort)
  try {
    await Promise.race([event, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function cancelled(cause: unknown): HearthError {
  return new HearthError('cancelled', 'the wait for the peer was given up', { cause })
}
