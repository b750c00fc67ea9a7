/** Puts messages together from the pieces that a stream brings: four bytes of length, then the message. */
import { HearthError } from '../../core/errors.ts'

export interface FrameQueue {
  /** Bytes that have come and have not been taken. */
  readonly bytes: number
  push(piece: Uint8Array): void
  /**
   * The next whole message, or undefined when it is not complete yet.
   * @throws HearthError `corrupt` when it says to be longer than any may be.
   */
  next(): Uint8Array | undefined
}

const lengthBytes = 4

export function createFrameQueue(frameBytesMax: number): FrameQueue {
  const pieces: Buffer[] = []
  let bytes = 0

  function take(count: number): Buffer {
    const taken: Buffer[] = []
    let missing = count
    while (missing > 0) {
      const [piece] = pieces
      if (piece === undefined) throw new Error('more bytes were taken than have come')
      if (piece.length > missing) {
        taken.push(piece.subarray(0, missing))
        pieces[0] = piece.subarray(missing)
        missing = 0
      } else {
        taken.push(piece)
        pieces.shift()
        missing -= piece.length
      }
    }
    bytes -= count
    const [only] = taken
    return only !== undefined && taken.length === 1 ? only : Buffer.concat(taken, count)
  }

  let length: number | undefined

  return {
    get bytes() {
      return bytes
    },
    push(piece) {
      pieces.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength))
      bytes += piece.byteLength
    },
    next() {
      if (length === undefined) {
        if (bytes < lengthBytes) return undefined
        length = take(lengthBytes).readUInt32BE()
      }
      if (length > frameBytesMax) {
        throw new HearthError('corrupt', `a message of ${length} bytes is too long`)
      }
      if (bytes < length) return undefined
      const frame = take(length)
      length = undefined
      return frame
    },
  }
}
