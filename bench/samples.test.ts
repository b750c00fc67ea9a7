import test from 'ava'
import fc from 'fast-check'
import { createSamples } from './samples.ts'
import { median } from './statistics.ts'

test('the median of an even number lies between the middle two', (t) => {
  t.is(median([4, 1, 3, 2]), 2.5)
  t.is(median([9, 1, 5]), 5)
  t.throws(() => median([]), { instanceOf: RangeError })
})

test('a median has as many values below it as above it', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const middle = median(values)
      const below = values.filter((value) => value < middle).length
      const above = values.filter((value) => value > middle).length
      return below <= values.length / 2 && above <= values.length / 2
    }),
  )
  t.pass()
})

test('ratios are made pair by pair, so that a machine that slows down between runs does not matter', (t) => {
  const samples = createSamples()
  for (const [run, slowness] of [1, 10, 100].entries()) {
    samples.add(run, { who: 'hearth', what: 'changed', unit: 's', value: 1.1 * slowness })
    samples.add(run, { who: 'direct', what: 'changed', unit: 's', value: 1 * slowness })
  }
  t.is(samples.ratio('changed', 'hearth', 'direct'), 1.1)
  t.is(samples.difference('changed', 'hearth', 'direct'), 1)
})

test('halves from different runs are not compared', (t) => {
  const samples = createSamples()
  samples.add(0, { who: 'hearth', what: 'changed', unit: 's', value: 1 })
  samples.add(1, { who: 'direct', what: 'changed', unit: 's', value: 1 })
  t.throws(() => samples.ratio('changed', 'hearth', 'direct'), { instanceOf: RangeError })
})

test('a row has median, spread, count and every value in the order of the runs', (t) => {
  const samples = createSamples()
  for (const [run, value] of [
    [1, 3],
    [0, 1],
    [2, 2],
  ] as const) {
    samples.add(run, { who: 'hearth', what: 'unchanged', unit: 's', value })
  }
  t.deepEqual(samples.rows(), [
    {
      who: 'hearth',
      what: 'unchanged',
      unit: 's',
      median: 2,
      min: 1,
      max: 3,
      runs: 3,
      values: [1, 3, 2],
    },
  ])
})
