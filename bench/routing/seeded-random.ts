/** Chance that can be repeated: the same seed, the same numbers. */

export interface SeededRandom {
  /** Evenly in [0, 1). */
  next(): number
  /** One of the items, each as likely as its weight says. */
  pick<T>(items: readonly T[], weight?: (item: T, index: number) => number): T
  /** Around 1, multiplied or divided by 1 + `spread` at one standard deviation. */
  noise(spread: number): number
  /** Exponentially distributed, as the gaps between independent arrivals are. */
  gap(mean: number): number
}

/** A Weyl sequence through the finalizer of MurmurHash3 (32 bits). */
export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0
  function next(): number {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
  return {
    next,
    pick(items, weight = () => 1) {
      const weights = items.map(weight)
      let left = next() * weights.reduce((sum, each) => sum + each, 0)
      const index = weights.findIndex((each) => {
        left -= each
        return left < 0
      })
      const item = items.at(index)
      if (item === undefined) throw new RangeError('nothing to pick from')
      return item
    },
    noise(spread) {
      // The sum of twelve even numbers is as good as normally distributed.
      let normal = -6
      for (let count = 0; count < 12; count += 1) normal += next()
      return (1 + spread) ** normal
    },
    gap: (mean) => -Math.log(1 - next()) * mean,
  }
}
