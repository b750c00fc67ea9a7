import test from 'ava'
import { brokenPromises, type DemoFigures } from './figures.ts'

const good: DemoFigures = {
  coldS: 40,
  unchangedS: 0.6,
  changedS: 5,
  refilledS: 3,
  freshNodeS: 4,
  deadPeerS: 5,
  directUnchangedS: 0.3,
  stepsReused: {
    cold: { reused: 0, total: 7 },
    unchanged: { reused: 7, total: 7 },
    changed: { reused: 4, total: 7 },
    refilled: { reused: 7, total: 7 },
    freshNode: { reused: 7, total: 7 },
    deadPeer: { reused: 7, total: 7 },
  },
}

test('figures that keep every promise break none', (t) => {
  t.deepEqual(brokenPromises(good), [])
})

const breaks = test.macro<[change: Partial<DemoFigures>, says: RegExp]>({
  exec(t, change, says) {
    const broken = brokenPromises({ ...good, ...change })
    t.is(broken.length, 1)
    t.regex(broken[0] ?? '', says)
  },
  title: (_, _change, says) => `a broken promise is named: ${says.source}`,
})

test(breaks, { unchangedS: 0.81 }, /unchanged took 0\.81 s/)
test(breaks, { changedS: 40 }, /changed took 40 s/)
test(breaks, { refilledS: 24.1 }, /refilled took 24\.1 s/)
test(breaks, { freshNodeS: 24.1 }, /freshNode took 24\.1 s/)
test(breaks, { deadPeerS: 24.1 }, /deadPeer took 24\.1 s/)
test(
  breaks,
  { stepsReused: { ...good.stepsReused, deadPeer: { reused: 6, total: 7 } } },
  /deadPeer reused 6 of 7 steps/,
)
test(
  breaks,
  { stepsReused: { ...good.stepsReused, refilled: { reused: 6, total: 7 } } },
  /refilled reused 6 of 7 steps/,
)
test(
  breaks,
  { stepsReused: { ...good.stepsReused, unchanged: { reused: 0, total: 0 } } },
  /unchanged reused 0 of 0 steps/,
)
