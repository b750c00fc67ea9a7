/** Whole nodes as processes, in the mesh: what the coordinator says of them, and what one does for the other. */
import test from 'ava'
import { type ListedNode, startMesh, type TestMesh } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'

test('a fresh node has from another what that one has built, also while the coordinator is away', async (t) => {
  await using mesh = await startMesh({ nodes: 2 })
  const [first, second] = mesh.nodes
  if (first === undefined || second === undefined) return t.fail()
  await using context = await createContext('RUN echo made once > /made')
  const built = await first.build([context.path])
  t.is(built.exitCode, 0, built.stderr)
  t.is((await mesh.settled(built.buildId)).solves[0]?.keep, 'kept')

  const nodes = await listedUntil(mesh, (node) => node.inMesh && heldBytes(node) > 0)
  for (const { id, peerId, load } of nodes) {
    t.regex(peerId, /^12D3KooW/, id)
    t.like(load?.projects?.[0], { project: 'app' }, id)
  }

  await mesh.coordinator.kill()
  const again = await second.build([context.path])
  t.is(again.exitCode, 0, again.stderr)
  await mesh.coordinator.start()
  const { stepsReused, stepsTotal } = await mesh.settled(again.buildId)
  t.is(stepsReused, stepsTotal)
})

function heldBytes({ load }: ListedNode): number {
  return load?.projects?.find(({ project }) => project === 'app')?.heldBytes ?? 0
}

async function listedUntil(
  mesh: TestMesh,
  isRight: (node: ListedNode) => boolean,
): Promise<ListedNode[]> {
  const limit = AbortSignal.timeout(60_000)
  for (;;) {
    const nodes = await mesh.listNodes()
    if (nodes.every(isRight)) return nodes
    if (limit.aborted) throw new Error(`still ${JSON.stringify(nodes)}`)
  }
}
