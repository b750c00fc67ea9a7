/** A framed stream whose two ends are in one process: the promises of the real one, without a wire. */
import { HearthError, toHearthError } from '../../core/errors.ts'
import { type Bell, createBell } from '../../mesh/adverts/bell.ts'
import type { FramedStream } from '../../mesh/index.ts'
import { readAheadBytes } from '../../mesh/limits.ts'

interface Direction {
  readonly frames: Uint8Array[]
  bytes: number
  isClosed: boolean
  readonly bell: Bell
}

/** Of each message, as on the wire. */
const lengthBytes = 4
const longMs = 60 * 60_000

/** @param count told of the bytes of each message. */
export function createMemoryStreams(count: (bytes: number) => void): [FramedStream, FramedStream] {
  const there = createDirection()
  const back = createDirection()
  const ended = new AbortController()
  const end = () => {
    ended.abort()
    there.bell.ring()
    back.bell.ring()
  }

  function createEnd(outgoing: Direction, incoming: Direction): FramedStream {
    return {
      ended: ended.signal,
      async write(frame, { signal }) {
        while (outgoing.bytes > readAheadBytes && !ended.signal.aborted && !signal.aborted) {
          await outgoing.bell.wait({ signal, limitMs: longMs })
        }
        if (signal.aborted) throw toHearthError(signal.reason)
        if (ended.signal.aborted || outgoing.isClosed) {
          throw new HearthError('unavailable', 'the stream of the peer has ended')
        }
        outgoing.frames.push(frame)
        outgoing.bytes += frame.length
        count(frame.length + lengthBytes)
        outgoing.bell.ring()
      },
      async read({ signal }) {
        for (;;) {
          if (signal.aborted) throw toHearthError(signal.reason)
          const frame = incoming.frames.shift()
          if (frame !== undefined) {
            incoming.bytes -= frame.length
            incoming.bell.ring()
            return frame
          }
          if (incoming.isClosed) return undefined
          if (ended.signal.aborted) throw new HearthError('unavailable', 'the stream broke off')
          await incoming.bell.wait({ signal, limitMs: longMs })
        }
      },
      async close() {
        outgoing.isClosed = true
        outgoing.bell.ring()
        if (incoming.isClosed) end()
      },
      abort: end,
    }
  }

  return [createEnd(there, back), createEnd(back, there)]
}

function createDirection(): Direction {
  return { frames: [], bytes: 0, isClosed: false, bell: createBell() }
}
