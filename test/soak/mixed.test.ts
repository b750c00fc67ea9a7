import test from 'ava'
import { soakMixed } from './mixed.ts'

test('half a minute of mixed builds leaves nothing behind', async (t) => {
  const result = await soakMixed({ minutes: 0.5, say: (line) => t.log(line) })
  t.deepEqual(result.problems, [])
  t.true(Object.values(result.byKind).every((count) => count > 0))
})
