import test from 'ava'
import { queueTime } from './queue-time.ts'

test('with a free slot a build begins at once', (t) => {
  t.is(queueTime(2, []), 0)
  t.is(queueTime(2, [90_000]), 0)
})

test('otherwise when the first of those ahead has ended, in the order of the queue', (t) => {
  t.is(queueTime(2, [90_000, 5_000]), 5_000)
  t.is(queueTime(2, [90_000, 5_000, 10_000]), 15_000)
  t.is(queueTime(1, [5_000, 10_000, 20_000]), 35_000)
})

test('a build that has outlived its estimate does not count as gone', (t) => {
  t.is(queueTime(1, [-60_000]), 2_000)
})
