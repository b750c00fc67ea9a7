import test from 'ava'
import { createPatience } from './patience.ts'

const hedgeMs = 500

test('a source that is not known yet has no limit of its own', (t) => {
  t.is(createPatience({ hedgeMs }).limitMs('a'), undefined)
})

test('the limit follows the longest of the last waits, within a generous floor and an end', (t) => {
  const patience = createPatience({ hedgeMs })
  patience.note({ source: 'a', ms: 1 })
  t.is(patience.limitMs('a'), 200)
  patience.note({ source: 'a', ms: 300 })
  t.is(patience.limitMs('a'), 600)
  patience.note({ source: 'a', ms: 60_000 })
  t.is(patience.limitMs('a'), 2_000)
  t.is(patience.limitMs('b'), undefined)
})

test('what was slow once is forgotten after a while', (t) => {
  const patience = createPatience({ hedgeMs })
  patience.note({ source: 'a', ms: 900 })
  for (let count = 0; count < 16; count += 1) patience.note({ source: 'a', ms: 5 })
  t.is(patience.limitMs('a'), 200)
})
