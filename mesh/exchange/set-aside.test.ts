import test from 'ava'
import { createSetAside } from './set-aside.ts'

function make() {
  const clock = { nowMs: 1_000 }
  const aside = createSetAside({ firstMs: 10_000, clock: () => clock.nowMs })
  return { clock, aside }
}

test('a source rests after each incident, twice as long as before, until it delivers', (t) => {
  const { clock, aside } = make()
  for (const forMs of [10_000, 20_000, 40_000]) {
    t.is(aside.atFault('a', 'broken off'), forMs)
    t.true(aside.isAside('a'))
    clock.nowMs += forMs
    t.false(aside.isAside('a'))
  }
  aside.delivered('a')
  t.is(aside.atFault('a', 'stalled'), 10_000)
})

test('many fetches that fail together are one incident', (t) => {
  const { clock, aside } = make()
  for (let count = 0; count < 16; count += 1) aside.atFault('a', 'broken off')
  clock.nowMs += 10_000
  t.false(aside.isAside('a'))
  t.true(aside.isForgivable('a'))
})

test('what says nothing about a source is no reason to rest', (t) => {
  const { aside } = make()
  for (const reason of ['absent', 'refused', 'set aside'] as const) {
    t.is(aside.atFault('a', reason), 0)
  }
  t.false(aside.isAside('a'))
})

test('being slow once is nothing, twice is', (t) => {
  const { aside } = make()
  t.is(aside.atFault('a', 'slow'), 0)
  t.is(aside.atFault('a', 'slow'), 10_000)
})

test('a first failure is forgiven where nobody else is left; a lie and a second failure are not', (t) => {
  const { clock, aside } = make()
  aside.atFault('a', 'unreachable')
  t.true(aside.isForgivable('a'))
  aside.atFault('a', 'wrong bytes')
  t.false(aside.isForgivable('a'))
  aside.atFault('b', 'unreachable')
  clock.nowMs += 10_000
  aside.atFault('b', 'unreachable')
  t.false(aside.isForgivable('b'))
})
