/**
 * Many keys looked up together, for a question about every node at once: a route asks for hundreds of keys, and each
 * may have a thousand holders. Naming them all is a megabyte of garbage per route, which the collector stops the
 * process for; so the answer is a matrix of bits that is filled again for each survey.
 */
import type { Heat, IndexKey, Survey } from './index.ts'
import type { NodeTable } from './node-table.ts'
import { copyRow, sizeOf } from './row.ts'

/** What one index lends to one survey after the other. */
export interface SurveyDesk {
  survey(keys: readonly IndexKey[]): Survey
}

export function createSurveyDesk(deps: {
  table: NodeTable
  /** Lent until the next look-up. */
  lookUp(key: IndexKey): Uint8Array | undefined
}): SurveyDesk {
  const { table, lookUp } = deps
  // By key: the bits of the nodes that hold it, then the bits of those that have it hot.
  let bits = new Int32Array(0)
  let sizes = new Float64Array(0)
  const alive = new Int32Array(table.alive.buffer)
  let latest: object | undefined

  return {
    survey(keys) {
      const words = Math.ceil(table.numbersUsed() / 32)
      const places = keys.length
      const used = places * 2 * words
      if (bits.length < used) bits = new Int32Array(used)
      if (sizes.length < places) sizes = new Float64Array(places)
      bits.fill(0, 0, used)
      for (let place = 0; place < places; place += 1) {
        const key = keys[place]
        const row = key === undefined ? undefined : lookUp(key)
        sizes[place] = row === undefined ? 0 : sizeOf(row)
        if (row !== undefined) copyRow(row, alive, { bits, start: place * 2 * words, words })
      }

      const survey: Survey = {
        places,
        size(place) {
          check(place)
          return sizes[place] ?? 0
        },
        isHeld(place) {
          check(place)
          const start = place * 2 * words
          for (let word = start; word < start + words; word += 1) if (bits[word] !== 0) return true
          return false
        },
        heat(place, number) {
          check(place)
          return heatAt(place * 2 * words, number)
        },
        tally(ofHeld, ofHot) {
          checkLatest()
          const sums = new Float64Array(words * 32)
          for (let place = 0; place < places; place += 1) {
            const start = place * 2 * words
            addTo(sums, start, ofHeld[place] ?? 0)
            addTo(sums, start + words, (ofHot[place] ?? 0) - (ofHeld[place] ?? 0))
          }
          return sums
        },
      }

      function checkLatest(): void {
        if (latest !== survey) throw new Error('a survey is asked after the next one was made')
      }

      function check(place: number): void {
        checkLatest()
        if (place >= places) throw new RangeError(`no place ${place} among ${places}`)
      }

      function heatAt(start: number, number: number): Heat | undefined {
        const word = number >> 5
        const bit = 1 << (number & 31)
        if (word >= words || ((bits[start + word] ?? 0) & bit) === 0) return undefined
        return ((bits[start + words + word] ?? 0) & bit) === 0 ? 'held' : 'hot'
      }

      function addTo(sums: Float64Array, start: number, weight: number): void {
        if (weight === 0) return
        for (let word = 0; word < words; word += 1) {
          let left = bits[start + word] ?? 0
          while (left !== 0) {
            const number = word * 32 + 31 - Math.clz32(left & -left)
            left &= left - 1
            sums[number] = (sums[number] ?? 0) + weight
          }
        }
      }

      latest = survey
      return survey
    },
  }
}
