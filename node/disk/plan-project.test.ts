import test from 'ava'
import fc from 'fast-check'
import { makeScope, scopeId } from '../../core/scope.ts'
import { planProject } from './plan-project.ts'

const main = makeScope('app', 'main')
const fork = makeScope('app', 'fork')
const other = makeScope('app', 'other')

function limitsOf(...args: Parameters<typeof planProject>) {
  return Object.fromEntries(planProject(...args).limits)
}

test('within the policy nothing shrinks, and the store may have what the states leave', (t) => {
  const states = [{ scope: main, netBytes: 600, lastUsedAtMs: 1 }]
  const plan = planProject(states, { storeBytes: 300, bytesMax: 1000 })
  t.deepEqual([...plan.limits], [])
  t.is(plan.storeRoom, 500)
  t.is(planProject([], { storeBytes: 300, bytesMax: 1000 }).storeRoom, 1000)
})

test('a state gives way to the store down to half of the policy, then the store to the state', (t) => {
  const states = [{ scope: main, netBytes: 700, lastUsedAtMs: 1 }]
  t.deepEqual(limitsOf(states, { storeBytes: 400, bytesMax: 1000 }), { 'app/main': 600 })
  t.deepEqual(limitsOf(states, { storeBytes: 900, bytesMax: 1000 }), { 'app/main': 500 })
  const small = [{ scope: main, netBytes: 400, lastUsedAtMs: 1 }]
  const plan = planProject(small, { storeBytes: 900, bytesMax: 1000 })
  t.deepEqual([...plan.limits], [])
  t.is(plan.storeRoom, 600)
})

test('states of side lines go first while they take more than a quarter, then the one used longest ago', (t) => {
  const states = [
    { scope: main, netBytes: 300, lastUsedAtMs: 1 },
    { scope: fork, netBytes: 300, lastUsedAtMs: 3 },
    { scope: other, netBytes: 100, lastUsedAtMs: 2 },
  ]
  // 500 allowed: side lines from 400 down to 125 at most, of which 200 are needed.
  t.deepEqual(limitsOf(states, { storeBytes: 500, bytesMax: 1000 }), {
    'app/fork': 200,
    'app/other': 0,
  })
  t.deepEqual(limitsOf(states, { storeBytes: 500, bytesMax: 500 }), {
    'app/main': 187.5,
    'app/fork': 62.5,
    'app/other': 0,
  })
})

test('carried out, a plan keeps the sum within the policy', (t) => {
  const state = fc.record({
    line: fc.constantFrom('main', 'a', 'b', 'c'),
    netBytes: fc.nat(1000),
    lastUsedAtMs: fc.nat(5),
  })
  const states = fc.uniqueArray(state, { selector: ({ line }) => line })
  fc.assert(
    fc.property(states, fc.nat(2000), fc.nat(2000), (made, storeBytes, bytesMax) => {
      const all = made.map(({ line, ...rest }) => ({ scope: makeScope('app', line), ...rest }))
      const { limits, storeRoom } = planProject(all, { storeBytes, bytesMax })
      const left = all.reduce(
        (sum, { scope, netBytes }) => sum + (limits.get(scopeId(scope)) ?? netBytes),
        0,
      )
      return left + Math.min(storeBytes, storeRoom) <= bytesMax + 1e-6
    }),
  )
  t.pass()
})
