/**
 * Collects what the runs of one measurement measured. Comparisons are made pair by pair, of values that
 * were measured in the same run; where a half is missing there is no comparison.
 */
import { median, rounded, spread } from './statistics.ts'

export type Unit = 's' | 'ms' | 'MB/s' | '/s' | 'B/s' | '%'

/** One line of a result. */
export interface Row {
  /** For example "hearth", "buildx, direct". */
  who: string
  /** For example "unchanged". */
  what: string
  unit: Unit
  median: number
  min: number
  max: number
  /** How many were measured. */
  runs: number
  /** All of them, in the order of the runs. */
  values: number[]
}

export interface Samples {
  /** @param run from 0. A second value of the same run, who and what replaces the first. */
  add(run: number, sample: { who: string; what: string; unit: Unit; value: number }): void
  /** In the order in which they came up first. */
  rows(): Row[]
  /** Median over the runs of `over` divided by `under`. */
  ratio(what: string, over: string, under: string): number
  /** Median over the runs of `from` minus `subtract`. */
  difference(what: string, from: string, subtract: string): number
}

export function createSamples(): Samples {
  const series = new Map<
    string,
    { who: string; what: string; unit: Unit; byRun: Map<number, number> }
  >()

  function pairs(what: string, first: string, second: string): [number, number][] {
    const a = series.get(`${what}\0${first}`)?.byRun ?? new Map<number, number>()
    const b = series.get(`${what}\0${second}`)?.byRun ?? new Map<number, number>()
    const found: [number, number][] = []
    for (const [run, value] of a) {
      const other = b.get(run)
      if (other !== undefined) found.push([value, other])
    }
    if (found.length === 0) {
      throw new RangeError(
        `"${what}" of ${first} and ${second} were never measured in the same run`,
      )
    }
    return found
  }

  return {
    add(run, { who, what, unit, value }) {
      const key = `${what}\0${who}`
      const known = series.get(key) ?? { who, what, unit, byRun: new Map<number, number>() }
      known.byRun.set(run, value)
      series.set(key, known)
    },
    rows: () =>
      [...series.values()].map(({ who, what, unit, byRun }) => {
        const values = [...byRun.entries()].sort(([a], [b]) => a - b).map(([, value]) => value)
        const all = spread(values)
        return {
          ...{ who, what, unit },
          ...{ median: rounded(all.median), min: rounded(all.min), max: rounded(all.max) },
          runs: values.length,
          values: values.map((value) => rounded(value)),
        }
      }),
    ratio: (what, over, under) => rounded(median(pairs(what, over, under).map(([a, b]) => a / b))),
    difference: (what, from, subtract) =>
      rounded(median(pairs(what, from, subtract).map(([a, b]) => a - b))),
  }
}
