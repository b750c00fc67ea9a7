/**
 * Which source brings which piece of a blob. Pieces go out in order, so that hashing can follow; a piece goes out
 * a second time when its first source is slow and another has nothing better to do. Pure: time is the caller's.
 */

/** A range of the blob: `start` inclusive, `end` exclusive, in bytes. */
export interface Piece {
  readonly index: number
  readonly start: number
  readonly end: number
}

export interface PiecePlan {
  readonly pieces: readonly Piece[]
  /** The next piece nobody has been asked for. */
  take(source: string): Piece | undefined
  /** A piece that only one other source is busy with, the furthest behind first. */
  takeAgain(source: string): Piece | undefined
  finish(piece: Piece): void
  /** The source will not bring it; it goes out again unless another is busy with it. */
  giveUp(piece: Piece, source: string): void
  /** How many pieces nobody has been asked for. */
  readonly waiting: number
  readonly isFinished: boolean
  /** All bytes before this one are there. */
  readonly frontier: number
}

export function createPiecePlan(size: number, pieceBytes: number): PiecePlan {
  const pieces: Piece[] = []
  for (let start = 0; start < size; start += pieceBytes) {
    pieces.push({ index: pieces.length, start, end: Math.min(size, start + pieceBytes) })
  }
  const waiting = pieces.map(({ index }) => index)
  const busy = new Map<number, Set<string>>()
  const finished = new Set<number>()
  let firstMissing = 0

  const assign = (index: number, source: string): Piece | undefined => {
    busy.set(index, (busy.get(index) ?? new Set()).add(source))
    return pieces[index]
  }

  return {
    pieces,
    take(source) {
      const index = waiting.shift()
      return index === undefined ? undefined : assign(index, source)
    },
    takeAgain(source) {
      const alone = [...busy.entries()]
        .filter(([, sources]) => sources.size === 1 && !sources.has(source))
        .map(([index]) => index)
      return alone.length === 0 ? undefined : assign(Math.min(...alone), source)
    },
    finish({ index }) {
      busy.delete(index)
      finished.add(index)
      while (finished.has(firstMissing)) firstMissing += 1
    },
    giveUp({ index }, source) {
      const sources = busy.get(index)
      if (sources?.delete(source) !== true || sources.size > 0) return
      busy.delete(index)
      waiting.push(index)
      waiting.sort((a, b) => a - b)
    },
    get waiting() {
      return waiting.length
    },
    get isFinished() {
      return finished.size === pieces.length
    },
    get frontier() {
      return pieces[firstMissing]?.start ?? size
    },
  }
}
