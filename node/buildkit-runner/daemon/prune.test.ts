import test from 'ava'
import { HearthError } from '../../../core/errors.ts'
import { pruneState } from './prune.ts'

/** A state of `bytes`, of which BuildKit itself counts only a part. */
function stateOf(bytes: number, uncounted: number) {
  const asked: number[] = []
  return {
    asked,
    request: (bytesMax: number) => ({ bytesMax, measure: async () => bytes }),
    control: {
      async pruneUnused() {
        asked.push(-1)
      },
      async prune({ bytesMax }: { bytesMax: number }) {
        asked.push(bytesMax)
        bytes = Math.min(bytes, Math.max(0, bytesMax) + uncounted)
      },
    },
  }
}

const { signal } = new AbortController()

test('a state within its limit is left alone', async (t) => {
  const state = stateOf(1000, 0)
  const outcome = await pruneState(state, state.request(1000), { signal })
  t.deepEqual(outcome, { type: 'kept', reason: 'within its limit' })
  t.deepEqual(state.asked, [])
})

test('a state beyond its limit is brought below it, with room for the next build', async (t) => {
  const state = stateOf(5000, 0)
  const outcome = await pruneState(state, state.request(1000), { signal })
  t.deepEqual(outcome, { type: 'pruned', bytesBefore: 5000, bytesAfter: 900 })
})

test('what BuildKit does not count is corrected for', async (t) => {
  const state = stateOf(5000, 300)
  const outcome = await pruneState(state, state.request(1000), { signal })
  t.deepEqual(outcome, { type: 'pruned', bytesBefore: 5000, bytesAfter: 900 })
  t.deepEqual(state.asked, [900, 600])
})

test('a state that cannot shrink further is not tried for ever', async (t) => {
  const state = stateOf(5000, 2000)
  const outcome = await pruneState(state, state.request(1000), { signal })
  t.deepEqual(outcome, { type: 'pruned', bytesBefore: 5000, bytesAfter: 2000 })
  t.is(state.asked.length, 3)
})

test('a build has precedence', async (t) => {
  const wanted = new AbortController()
  const state = stateOf(5000, 0)
  const control = {
    ...state.control,
    async prune() {
      wanted.abort()
      throw new HearthError('cancelled', 'pruning gave way to a build')
    },
  }
  const outcome = await pruneState({ control }, state.request(1000), { signal: wanted.signal })
  t.deepEqual(outcome, { type: 'kept', reason: 'gave way to a build' })
})

test('what was not used for long goes first, and what the cache store has too is no reason to prune more', async (t) => {
  const state = stateOf(5000, 0)
  const request = { ...state.request(4000), unusedMsMax: 1000, bytesUncounted: 600 }
  await pruneState(state, request, { signal })
  t.deepEqual(state.asked.slice(0, 2), [-1, 4200])
})
