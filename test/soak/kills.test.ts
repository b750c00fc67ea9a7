import test from 'ava'
import { soakKills } from './kills.ts'

test('after each of twenty kills the next start works, nothing is torn, and nothing is left behind', async (t) => {
  t.timeout(10 * 60_000)
  const result = await soakKills({ rounds: 20, seed: 4, say: (line) => t.log(line) })
  t.deepEqual(result.problems, [])
  t.is(result.kills, 20)
  t.true(Object.values(result.byTarget).every((count) => count > 0))
  // Otherwise the kills came while nothing was built.
  t.true(result.brokenBuilds > 0)
  t.true(result.betweenRenameAndCommit > 0)
})
