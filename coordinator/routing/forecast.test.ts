import test from 'ava'
import fc from 'fast-check'
import { digestOf } from '../../core/digest.ts'
import { estimateWork, type Forecast, type Layer, type Warmth } from './forecast.ts'

const layer = (name: string, bytes: number): Layer => ({ digest: digestOf(name), bytes })
const base = layer('base', 30_000_000)
const modules = layer('modules', 60_000_000)
const program = layer('program', 3_000_000)

/** Base, dependencies on it, a program on those, and one more step that nobody has made. */
const forecast: Forecast = [
  { inputs: [], runMs: 1_000, layers: [base] },
  { inputs: [0], runMs: 40_000, layers: [base, modules] },
  { inputs: [1], runMs: 9_000, layers: [base, modules, program] },
  { inputs: [2], runMs: 500, layers: undefined },
]

function warmth(known: { hot?: number[]; held?: Layer[]; bytesPerMs?: number }): Warmth {
  return {
    isHot: (step) => known.hot?.includes(step) ?? false,
    bringMs: ({ digest, bytes }) => {
      if (known.held?.some((held) => held.digest === digest)) return 0
      return known.bytesPerMs === undefined ? undefined : bytes / known.bytesPerMs
    },
  }
}

test('a node that has just built it runs the new step and nothing else', (t) => {
  t.like(estimateWork(forecast, warmth({ hot: [0, 1, 2] })), {
    ...{ moveMs: 0, unpackMs: 0, runMs: 500, bytesMoved: 0 },
    ...{ stepsReused: 3, stepsTotal: 4 },
  })
})

test('a node with the layers on its disk unpacks them', (t) => {
  const work = estimateWork(forecast, warmth({ held: [base, modules, program] }))
  t.like(work, { moveMs: 0, unpackMs: 3_100, runMs: 500, bytesMoved: 0, stepsReused: 3 })
})

test('a fresh node brings each layer once', (t) => {
  const work = estimateWork(forecast, warmth({ bytesPerMs: 93_000 }))
  t.like(work, { moveMs: 1_000, runMs: 500, bytesMoved: 93_000_000, stepsReused: 3 })
})

test('what costs more to bring than to run is run', (t) => {
  const work = estimateWork(forecast, warmth({ held: [base], bytesPerMs: 1_000 }))
  t.like(work, { bytesMoved: 0, runMs: 49_500, stepsReused: 1 })
})

test('with nobody to give anything, everything runs, in the time of the longest chain', (t) => {
  t.like(estimateWork(forecast, warmth({})), { runMs: 50_500, stepsReused: 0, moveMs: 0 })
  const aside: Forecast = [...forecast, { inputs: [0], runMs: 20_000, layers: undefined }]
  t.is(estimateWork(aside, warmth({})).runMs, 50_500)
})

test('a hit spares the steps below it, whatever they would have cost', (t) => {
  t.like(estimateWork(forecast.slice(0, 3), warmth({ hot: [2] })), { runMs: 0, stepsReused: 3 })
})

test('a warmer node never works longer', (t) => {
  const steps = fc.array(
    fc.record({
      inputs: fc.array(fc.nat(20), { maxLength: 3 }),
      runMs: fc.nat(60_000),
      layers: fc.option(fc.constantFrom([base], [base, modules]), { nil: undefined }),
    }),
    { maxLength: 20 },
  )
  fc.assert(
    fc.property(steps, fc.array(fc.nat(20)), fc.array(fc.nat(20)), (raw, hot, more) => {
      const built = raw.map((step, index) => ({
        ...step,
        inputs: step.inputs.filter((input) => input < index),
      }))
      const cold = estimateWork(built, warmth({ hot }))
      const warm = estimateWork(built, warmth({ hot: [...hot, ...more] }))
      t.true(warm.runMs <= cold.runMs)
      t.true(warm.stepsReused >= cold.stepsReused)
    }),
  )
})
