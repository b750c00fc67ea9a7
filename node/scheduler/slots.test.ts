import test from 'ava'
import { gib } from '../../core/limits.ts'
import { slotsFor, slotsOfThisMachine } from './slots.ts'

for (const [cores, memoryGib, slots] of [
  [1, 8, 2],
  [2, 24, 2],
  [16, 64, 16],
  [16, 9, 4],
  [8, 2, 1],
  [1, 0.5, 1],
] as const) {
  test(`${cores} cores and ${memoryGib} GiB make ${slots} slots`, (t) => {
    t.is(slotsFor({ cores, memoryBytes: memoryGib * gib }), slots)
  })
}

test('this machine has slots', (t) => {
  t.true(Number.isInteger(slotsOfThisMachine()) && slotsOfThisMachine() >= 1)
})
