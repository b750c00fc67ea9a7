/** The few numbers that measurements are told by. */

/** @throws RangeError when there are none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.floor((sorted.length - 1) / 2)]
  if (upper === undefined || lower === undefined) throw new RangeError('no values')
  return (lower + upper) / 2
}

/**
 * The smallest value that so many of a hundred are not above.
 * @throws RangeError when there are none.
 */
export function percentile(values: readonly number[], hundredths: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const found = sorted[Math.ceil((sorted.length * hundredths) / 100) - 1]
  if (found === undefined) throw new RangeError('no values')
  return found
}

export interface Spread {
  median: number
  min: number
  max: number
}

/** @throws RangeError when there are none. */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** For reading and comparing, not for further arithmetic. */
export function rounded(value: number, digits = 3): number {
  return Number(value.toFixed(digits))
}
