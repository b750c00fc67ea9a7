/** Where the results of a build's steps are, read from the index of the mesh: a price, never a promise. */
import { isDigest } from '../../core/digest.ts'
import type { Scope } from '../../core/scope.ts'
import { type DigestIndex, type Heat, keyOfStep } from '../../mesh/index.ts'

export interface StepHeat {
  /** @param keys of steps; '' for one that is not known. */
  look(scope: Scope, keys: readonly string[]): HeatView
}

/** Lent until the next look. */
export interface HeatView {
  /**
   * What each node would spare, by its place in the list.
   * @param worth of each key: of having it at all.
   */
  spared(nodeIds: readonly string[], worth: ArrayLike<number>): number[]
  /** A copy, which stays. */
  table(nodeIds: readonly string[]): HeatTable
}

export interface HeatTable {
  /** Columns. */
  readonly nodeIds: readonly string[]
  /** What the layers of the key's result weigh, with those below; 0 when nobody said. */
  bytes(row: number): number
  /** Undefined: the node has not said that it has it. */
  at(row: number, column: number): Heat | undefined
  /** Whether any living node has it, one that is not in the table included. */
  isSomewhere(row: number): boolean
}

/** What is hot need not be unpacked. */
const heldShare = 0.9

/** @param deps.peerOf a node's name in the index; undefined for a node that is not in the mesh. */
export function createStepHeat(deps: {
  index: Pick<DigestIndex, 'survey' | 'numberOf'>
  peerOf: (nodeId: string) => string | undefined
}): StepHeat {
  const { index, peerOf } = deps
  const numberOf = (nodeId: string): number | undefined => {
    const peer = peerOf(nodeId)
    return peer === undefined ? undefined : index.numberOf(peer)
  }
  return {
    look(scope, keys) {
      // Places of the survey, by row.
      const places = new Map<number, number>()
      const asked = keys.flatMap((key, row) => {
        if (!isDigest(key)) return []
        places.set(row, places.size)
        return [keyOfStep(scope, key)]
      })
      const survey = index.survey(asked)
      return {
        spared(nodeIds, worth) {
          const ofHot = new Float64Array(asked.length)
          for (const [row, place] of places) ofHot[place] = worth[row] ?? 0
          const sums = survey.tally(
            ofHot.map((value) => value * heldShare),
            ofHot,
          )
          return nodeIds.map((nodeId) => sums[numberOf(nodeId) ?? -1] ?? 0)
        },
        table(nodeIds) {
          const bytes = new Float64Array(keys.length)
          const somewhere = new Uint8Array(keys.length)
          const cells: (Heat | undefined)[] = Array(keys.length * nodeIds.length).fill(undefined)
          const numbers = nodeIds.map(numberOf)
          for (const [row, place] of places) {
            bytes[row] = survey.size(place)
            somewhere[row] = survey.isHeld(place) ? 1 : 0
            for (const [column, number] of numbers.entries()) {
              if (number === undefined) continue
              cells[row * nodeIds.length + column] = survey.heat(place, number)
            }
          }
          return {
            nodeIds,
            bytes: (row) => bytes[row] ?? 0,
            at: (row, column) => cells[row * nodeIds.length + column],
            isSomewhere: (row) => somewhere[row] === 1,
          }
        },
      }
    },
  }
}
