import test from 'ava'
import { soakMixed } from './mixed.ts'

test('three minutes of mixed builds and kills leave nothing behind', async (t) => {
  t.timeout(10 * 60_000)
  const result = await soakMixed({ minutes: 3, seed: 5, say: (line) => t.log(line) })
  t.deepEqual(result.problems, [])
  t.true(Object.values(result.byKind).every((count) => count > 0))
  t.true(result.kills.hearth > 0 && result.kills.daemon > 0)
  t.true(result.brokenBuilds > 0)
})
