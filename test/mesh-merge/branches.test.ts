import test from 'ava'
import { createBranches } from '../../bench/merge/branches.ts'
import { busyboxImage, pushImage, startMesh, startUpstreamRegistry } from '../harness/index.ts'

/** Of the steps of all four, as the issue asks; a cloned volume has those of one. */
const shareWanted = 0.95

test('a fifth node reuses what four have built at the same time, also when one of them is gone for good', async (t) => {
  await using registry = await startUpstreamRegistry()
  const base = await pushImage(registry.host, 'busybox', '1', await busyboxImage())
  await using branches = await createBranches(base)
  await using mesh = await startMesh({ nodes: 4, reach: [registry.host] })

  const built = await Promise.all(
    branches.all.map(async ({ folder }, each) => mesh.nodes[each]?.build([folder])),
  )
  for (const build of built) {
    t.is(build?.exitCode, 0, build?.stderr)
    const { solves } = await mesh.settled(build?.buildId ?? '')
    t.deepEqual(
      solves.map(({ keep, keepReason }) => ({ keep, keepReason })),
      [{ keep: 'kept', keepReason: '' }],
    )
  }
  const [gone] = mesh.nodes
  await gone?.kill()

  const fifth = await mesh.addNode()
  let reused = 0
  let total = 0
  for (const { name, folder } of branches.all) {
    const output = `type=image,name=${registry.host}/${name}:1,push=true`
    const again = await fifth.build(['--output', output, folder])
    t.is(again.exitCode, 0, again.stderr)
    const { stepsReused, stepsTotal } = await mesh.settled(again.buildId)
    t.is(stepsTotal, branches.stepsEach)
    t.log(`${name}: ${stepsReused} of ${stepsTotal}`)
    reused += stepsReused
    total += stepsTotal
  }
  t.true(reused >= total * shareWanted, `${reused} of ${total} steps were reused`)
})
