/** Whole nodes as processes, before an object store: what one has built outlives it, and trouble costs hits alone. */
import test from 'ava'
import { until } from '../../node/cache-store/s3-tier/tier.fixture.ts'
import type { BuildInfo } from '../harness/hearth-client.ts'
import { startMesh, startS3 } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'

test('what a node has built outlives it, and a build succeeds also where the object store is gone too', async (t) => {
  await using s3 = await startS3()
  await using mesh = await startMesh({ nodes: 1, s3 })
  const [first] = mesh.nodes
  if (first === undefined) return t.fail()
  await using context = await createContext(
    ['RUN head -c 20000000 /dev/urandom > /large', 'RUN echo once > /made', 'RUN cat /made'].join(
      '\n',
    ),
  )
  const built = await mesh.build(['--project', 'app', context.path])
  t.is(built.exitCode, 0, built.stderr)
  t.is((await mesh.settled(built.buildId ?? '')).solves[0]?.keep, 'kept')
  await first.kill()

  const second = await mesh.addNode()
  const again = await second.build(['--output', 'type=cacheonly', context.path])
  t.is(again.exitCode, 0, again.stderr)
  const { stepsReused, stepsTotal } = await mesh.settled(again.buildId)
  t.true(stepsTotal >= 3)
  t.is(stepsReused, stepsTotal)

  await second.kill()
  const third = await mesh.addNode()
  await s3.process.stop({ signal: 'SIGKILL' })
  const alone = await third.build(['--output', 'type=cacheonly', context.path])
  t.is(alone.exitCode, 0, alone.stderr)
  // Its own cache waits for the object store to come back, so it does not settle.
  await until(async () => {
    const { exitCode, stdout } = await mesh.run(['build-info', alone.buildId, '--json'])
    return exitCode === 0 && (JSON.parse(stdout) as BuildInfo).stepsTotal === stepsTotal
  })
  t.is((await mesh.buildInfo(alone.buildId)).stepsReused, 0)
  t.regex(third.log(), /trouble while/)
})
