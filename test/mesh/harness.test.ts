import test from 'ava'
import { startMesh } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'

test('each node of a mesh builds what is sent straight to it, dies and comes back alone', async (t) => {
  await using mesh = await startMesh({ nodes: 2 })
  const [first, second] = mesh.nodes
  if (first === undefined || second === undefined) return t.fail()
  await using context = await createContext('RUN echo made here > /made')
  const built = await first.build([context.path])
  t.is(built.exitCode, 0, built.stderr)
  t.is((await mesh.settled(built.buildId)).solves[0]?.keep, 'kept')

  await first.kill()
  t.true(second.running())
  const alone = await second.build([context.path])
  t.is(alone.exitCode, 0, alone.stderr)
  await first.start()
  const again = await first.build([context.path])
  t.is(again.exitCode, 0, again.stderr)
  const { stepsReused, stepsTotal } = await mesh.settled(again.buildId)
  t.is(stepsReused, stepsTotal)
})
